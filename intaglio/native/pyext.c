/* Calls from Python into a compiled program, with as little in between as there can be.
 *
 * A Caller holds a program's entry point, the memory of its states and constants, and a description of
 * its inputs and outputs. `caller.call(*arrays)` checks the arrays, allocates the outputs, runs the
 * program on the arrays' own memory and returns the outputs. An argument that does not fit as it is goes
 * to `prepare`, a Python function that converts it or raises an error which explains.
 *
 * Built against the stable ABI of Python 3.11 and the NumPy C API. All fields of a Caller are guarded by
 * the GIL; `lock` serialises calls of a program with states while the GIL is released.
 */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>
#include <stdint.h>
#include <string.h>

#define POINTERS_ON_STACK 64
#define MOST_DIMS 64 /* NumPy's own limit */

typedef int (*run_function)(void *const *buffers, const int64_t *symbols, void *pool);
typedef void *(*pool_create_function)(int threads);
typedef void (*pool_destroy_function)(void *pool);

/* What one input or output must be: dims[k] is a size, or -1 - s for the symbol number s. */
typedef struct {
    PyArray_Descr *descr;
    int rank;
    npy_intp *dims;
} Argument;

typedef struct Caller {
    PyObject_HEAD
    run_function run;
    pool_create_function pool_create;
    pool_destroy_function pool_destroy;
    Argument *arguments; /* inputs, then outputs */
    int inputs, outputs, states, constants, symbols;
    int64_t *lowest, *highest; /* inclusive bounds of each symbol */
    void **kept;               /* pointers to states, then constants */
    char **state_ends;         /* one past the last byte of each state */
    char *states_begin, *states_end;
    PyObject *arrays;    /* list of the arrays behind `kept` */
    PyObject *prepare;   /* (arguments, states) -> (inputs, outputs, symbols) */
    PyObject *new_arena; /* () -> array */
    PyObject *fail;      /* (code) -> exception */
    PyObject *idle;      /* list of arenas that no call uses now */
    int threads, has_fast_path, releases_gil;
    void *pool;
    int pool_started, pool_busy;
    PyThread_type_lock lock;
    struct Caller *previous, *next; /* all Callers of the process */
} Caller;

static Caller *all_callers;

/* ---- making the buffers of a call ---- */

/* Whether an input lies in memory that the program writes. */
static int overlaps_state(const Caller *self, PyArrayObject *array) {
    const char *begin = PyArray_BYTES(array), *end = begin + PyArray_NBYTES(array);
    if (begin >= self->states_end || end <= self->states_begin) return 0;
    for (int k = 0; k < self->states; k++) {
        if (begin < self->state_ends[k] && end > (const char *)self->kept[k]) return 1;
    }
    return 0;
}

static int fits(const Caller *self, const Argument *expected, PyObject *value, int64_t *symbols) {
    if (Py_TYPE(value) != &PyArray_Type) return 0;
    PyArrayObject *array = (PyArrayObject *)value;
    const int needed = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
    PyArray_Descr *descr = PyArray_DESCR(array); /* unpickled arrays have equal ones of their own */
    if (descr != expected->descr && !PyArray_EquivTypes(descr, expected->descr)) return 0;
    if (PyArray_NDIM(array) != expected->rank) return 0;
    if ((PyArray_FLAGS(array) & needed) != needed) return 0;
    const npy_intp *dims = PyArray_DIMS(array);
    for (int axis = 0; axis < expected->rank; axis++) {
        npy_intp size = expected->dims[axis];
        if (size < 0) {
            int64_t *symbol = &symbols[-1 - size];
            if (*symbol < 0) *symbol = dims[axis];
            size = *symbol;
        }
        if (dims[axis] != size) return 0;
    }
    return self->states == 0 || !overlaps_state(self, array);
}

/* The buffers of a call when every argument fits as it is: 1, or 0 when one does not, or -1 with an error. */
static int fast_buffers(Caller *self, PyObject *const *values, void **buffers, PyObject **outputs,
                        int64_t *symbols) {
    for (int k = 0; k < self->symbols; k++) symbols[k] = -1;
    for (int k = 0; k < self->inputs; k++) {
        if (!fits(self, &self->arguments[k], values[k], symbols)) return 0;
        buffers[k] = PyArray_DATA((PyArrayObject *)values[k]);
    }
    for (int k = 0; k < self->symbols; k++) {
        if (symbols[k] < self->lowest[k] || symbols[k] > self->highest[k]) return 0;
    }
    for (int k = 0; k < self->outputs; k++) {
        const Argument *output = &self->arguments[self->inputs + k];
        npy_intp dims[MOST_DIMS];
        for (int axis = 0; axis < output->rank; axis++) {
            npy_intp size = output->dims[axis];
            dims[axis] = size < 0 ? (npy_intp)symbols[-1 - size] : size;
        }
        Py_INCREF((PyObject *)output->descr);
        outputs[k] = PyArray_Empty(output->rank, dims, output->descr, 0);
        if (outputs[k] == NULL) return -1;
        buffers[self->inputs + k] = PyArray_DATA((PyArrayObject *)outputs[k]);
    }
    return 1;
}

/* The same with arguments converted by `prepare`; *holder keeps the converted arrays alive. */
static int prepared_buffers(Caller *self, PyObject *const *values, Py_ssize_t count, void **buffers,
                            PyObject **outputs, int64_t *symbols, PyObject **holder) {
    PyObject *given = PyTuple_New(count);
    if (given == NULL) return -1;
    for (Py_ssize_t k = 0; k < count; k++) {
        Py_INCREF(values[k]);
        PyTuple_SetItem(given, k, values[k]);
    }
    PyObject *made = PyObject_CallFunctionObjArgs(self->prepare, given, self->arrays, NULL);
    Py_DECREF(given);
    if (made == NULL) return -1;
    *holder = made;
    PyObject *parts[3];
    for (int k = 0; k < 3; k++) {
        parts[k] = PyTuple_GetItem(made, k);
        if (parts[k] == NULL) return -1;
    }
    for (int k = 0; k < self->inputs + self->outputs; k++) {
        const int is_output = k >= self->inputs;
        PyObject *array = PyTuple_GetItem(parts[is_output], is_output ? k - self->inputs : k);
        if (array == NULL) return -1;
        if (!PyArray_Check(array)) {
            PyErr_SetString(PyExc_TypeError, "prepare must return arrays");
            return -1;
        }
        buffers[k] = PyArray_DATA((PyArrayObject *)array);
        if (is_output) {
            Py_INCREF(array);
            outputs[k - self->inputs] = array;
        }
    }
    for (int k = 0; k < self->symbols; k++) {
        PyObject *value = PyTuple_GetItem(parts[2], k);
        if (value == NULL) return -1;
        symbols[k] = PyLong_AsLongLong(value);
        if (symbols[k] == -1 && PyErr_Occurred()) return -1;
    }
    return 1;
}

/* ---- running ---- */

static PyObject *take_arena(Caller *self) {
    Py_ssize_t count = PyList_Size(self->idle);
    if (count == 0) return PyObject_CallNoArgs(self->new_arena);
    PyObject *arena = PyList_GetItem(self->idle, count - 1);
    Py_INCREF(arena);
    if (PyList_SetSlice(self->idle, count - 1, count, NULL) < 0) {
        Py_DECREF(arena);
        return NULL;
    }
    return arena;
}

/* The pool when no other call uses it, else NULL: the call then runs on its own thread alone. */
static void *take_pool(Caller *self) {
    if (!self->pool_started) {
        self->pool_started = 1;
        if (self->threads > 1 && self->pool_create != NULL) self->pool = self->pool_create(self->threads);
    }
    if (self->pool == NULL || self->pool_busy) return NULL;
    self->pool_busy = 1;
    return self->pool;
}

static void lock_states(Caller *self) {
    if (self->states == 0 || !self->releases_gil) return;
    if (PyThread_acquire_lock(self->lock, NOWAIT_LOCK)) return;
    Py_BEGIN_ALLOW_THREADS
    PyThread_acquire_lock(self->lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS
}

static void unlock_states(Caller *self) {
    if (self->states != 0 && self->releases_gil) PyThread_release_lock(self->lock);
}

/* Run the program on buffers whose inputs and outputs are set, with the states locked. */
static int run_locked(Caller *self, void **buffers, const int64_t *symbols) {
    PyObject *arena = take_arena(self);
    if (arena == NULL) return -1;
    const int own = self->inputs + self->outputs, kept = self->states + self->constants;
    memcpy(buffers + own, self->kept, (size_t)kept * sizeof(void *));
    buffers[own + kept] = PyArray_DATA((PyArrayObject *)arena);
    void *pool = take_pool(self);
    int code;
    if (self->releases_gil) {
        Py_BEGIN_ALLOW_THREADS
        code = self->run(buffers, symbols, pool);
        Py_END_ALLOW_THREADS
    } else {
        code = self->run(buffers, symbols, pool);
    }
    if (pool != NULL) self->pool_busy = 0;
    int status = PyList_Append(self->idle, arena);
    Py_DECREF(arena);
    if (status < 0 || code == 0) return status;
    PyObject *error = PyObject_CallFunction(self->fail, "i", code);
    if (error != NULL) PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return -1;
}

static int run_program(Caller *self, void **buffers, const int64_t *symbols) {
    lock_states(self);
    int status = run_locked(self, buffers, symbols);
    unlock_states(self);
    return status;
}

static PyObject *result_of(PyObject **outputs, int count) {
    if (count == 1) {
        PyObject *only = outputs[0];
        outputs[0] = NULL;
        return only;
    }
    PyObject *tuple = PyTuple_New(count);
    for (int k = 0; tuple != NULL && k < count; k++) {
        PyTuple_SetItem(tuple, k, outputs[k]);
        outputs[k] = NULL;
    }
    return tuple;
}

static PyObject *caller_call(PyObject *object, PyObject *const *values, Py_ssize_t count) {
    Caller *self = (Caller *)object;
    const size_t own = (size_t)self->inputs + (size_t)self->outputs;
    const size_t words = own + (size_t)(self->states + self->constants) + 1;
    /* one block: the program's buffers, the output arrays, the symbols */
    const size_t total = words + (size_t)self->outputs + (size_t)self->symbols;
    void *on_stack[POINTERS_ON_STACK];
    void **buffers = on_stack;
    if (total > POINTERS_ON_STACK) {
        buffers = PyMem_Malloc(total * sizeof(int64_t));
        if (buffers == NULL) return PyErr_NoMemory();
    }
    PyObject **outputs = (PyObject **)(buffers + words);
    int64_t *symbols = (int64_t *)(outputs + self->outputs);
    memset(outputs, 0, (size_t)self->outputs * sizeof(PyObject *));

    PyObject *holder = NULL, *result = NULL;
    int ready = 0;
    if (self->has_fast_path && count == self->inputs) {
        ready = fast_buffers(self, values, buffers, outputs, symbols);
    }
    if (ready == 0) ready = prepared_buffers(self, values, count, buffers, outputs, symbols, &holder);
    if (ready == 1 && run_program(self, buffers, symbols) == 0) result = result_of(outputs, self->outputs);

    for (int k = 0; k < self->outputs; k++) Py_XDECREF(outputs[k]);
    Py_XDECREF(holder);
    if (buffers != on_stack) PyMem_Free(buffers);
    return result;
}

/* ---- states ---- */

static void find_states(Caller *self) {
    self->states_begin = self->states_end = NULL;
    for (int k = 0; k < self->states; k++) {
        PyArrayObject *array = (PyArrayObject *)PyList_GetItem(self->arrays, k);
        char *begin = PyArray_BYTES(array), *end = begin + PyArray_NBYTES(array);
        if (self->states_begin == NULL || begin < self->states_begin) self->states_begin = begin;
        if (self->states_end == NULL || end > self->states_end) self->states_end = end;
        self->state_ends[k] = end;
    }
}

static PyObject *caller_bind_state(PyObject *object, PyObject *arguments) {
    Caller *self = (Caller *)object;
    int position;
    PyObject *array;
    if (!PyArg_ParseTuple(arguments, "iO", &position, &array)) return NULL;
    if (position < 0 || position >= self->states || !PyArray_Check(array)) {
        PyErr_SetString(PyExc_IndexError, "bind_state takes the number of a state and an array");
        return NULL;
    }
    lock_states(self);
    Py_INCREF(array);
    int status = PyList_SetItem(self->arrays, position, array);
    if (status == 0) {
        self->kept[position] = PyArray_DATA((PyArrayObject *)array);
        find_states(self);
    }
    unlock_states(self);
    if (status < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *caller_states(PyObject *object, void *unused) {
    (void)unused;
    Caller *self = (Caller *)object;
    PyObject *list = PyList_GetSlice(self->arrays, 0, self->states);
    if (list == NULL) return NULL;
    PyObject *tuple = PyList_AsTuple(list);
    Py_DECREF(list);
    return tuple;
}

/* ---- life ---- */

static int read_argument(Argument *argument, PyObject *described) {
    PyObject *descr, *dims;
    if (!PyArg_ParseTuple(described, "O!O!", &PyArrayDescr_Type, &descr, &PyTuple_Type, &dims)) return -1;
    const Py_ssize_t rank = PyTuple_Size(dims);
    if (rank > MOST_DIMS) {
        PyErr_SetString(PyExc_ValueError, "too many dimensions");
        return -1;
    }
    argument->rank = (int)rank;
    argument->dims = PyMem_Malloc(((size_t)rank + 1) * sizeof(npy_intp));
    if (argument->dims == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t axis = 0; axis < rank; axis++) {
        argument->dims[axis] = (npy_intp)PyLong_AsSsize_t(PyTuple_GetItem(dims, axis));
        if (argument->dims[axis] == -1 && PyErr_Occurred()) return -1;
    }
    Py_INCREF(descr);
    argument->descr = (PyArray_Descr *)descr;
    return 0;
}

static int read_arguments(Caller *self, PyObject *inputs, PyObject *outputs) {
    self->inputs = (int)PyTuple_Size(inputs);
    self->outputs = (int)PyTuple_Size(outputs);
    const int count = self->inputs + self->outputs;
    self->arguments = PyMem_Calloc((size_t)count + 1, sizeof(Argument));
    if (self->arguments == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int k = 0; k < count; k++) {
        PyObject *described =
            k < self->inputs ? PyTuple_GetItem(inputs, k) : PyTuple_GetItem(outputs, k - self->inputs);
        if (read_argument(&self->arguments[k], described) < 0) return -1;
    }
    return 0;
}

static int read_symbols(Caller *self, PyObject *bounds) {
    self->symbols = (int)PyTuple_Size(bounds);
    self->lowest = PyMem_Calloc((size_t)self->symbols * 2 + 1, sizeof(int64_t));
    if (self->lowest == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->highest = self->lowest + self->symbols;
    for (int k = 0; k < self->symbols; k++) {
        long long low, high;
        if (!PyArg_ParseTuple(PyTuple_GetItem(bounds, k), "LL", &low, &high)) return -1;
        self->lowest[k] = low;
        self->highest[k] = high;
    }
    return 0;
}

static int read_arrays(Caller *self, PyObject *states, PyObject *constants) {
    self->states = (int)PyTuple_Size(states);
    self->constants = (int)PyTuple_Size(constants);
    const int count = self->states + self->constants;
    self->kept = PyMem_Calloc((size_t)count + 1, sizeof(void *));
    self->state_ends = PyMem_Calloc((size_t)self->states + 1, sizeof(char *));
    self->arrays = PyList_New(count);
    if (self->kept == NULL || self->state_ends == NULL || self->arrays == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int k = 0; k < count; k++) {
        PyObject *array =
            k < self->states ? PyTuple_GetItem(states, k) : PyTuple_GetItem(constants, k - self->states);
        if (!PyArray_Check(array)) {
            PyErr_SetString(PyExc_TypeError, "states and constants must be arrays");
            return -1;
        }
        self->kept[k] = PyArray_DATA((PyArrayObject *)array);
        Py_INCREF(array);
        PyList_SetItem(self->arrays, k, array);
    }
    find_states(self);
    return 0;
}

static PyObject *caller_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"run",     "pool_create", "pool_destroy", "inputs",       "outputs",
                            "states",  "constants",   "symbols",      "prepare",      "new_arena",
                            "fail",    "threads",     "fast_path",    "releases_gil", NULL};
    unsigned long long run, pool_create, pool_destroy;
    PyObject *inputs, *outputs, *states, *constants, *symbols, *prepare, *new_arena, *fail;
    int threads, fast_path, releases_gil;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "KKKO!O!O!O!O!OOOipp", names, &run, &pool_create,
                                     &pool_destroy, &PyTuple_Type, &inputs, &PyTuple_Type, &outputs,
                                     &PyTuple_Type, &states, &PyTuple_Type, &constants, &PyTuple_Type,
                                     &symbols, &prepare, &new_arena, &fail, &threads, &fast_path,
                                     &releases_gil)) {
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Caller *self = (Caller *)allocate(type, 0);
    if (self == NULL) return NULL;
    self->next = all_callers;
    if (all_callers != NULL) all_callers->previous = self;
    all_callers = self;
    self->run = (run_function)(uintptr_t)run;
    self->pool_create = (pool_create_function)(uintptr_t)pool_create;
    self->pool_destroy = (pool_destroy_function)(uintptr_t)pool_destroy;
    self->threads = threads;
    self->has_fast_path = fast_path;
    self->releases_gil = releases_gil;
    Py_INCREF(prepare);
    self->prepare = prepare;
    Py_INCREF(new_arena);
    self->new_arena = new_arena;
    Py_INCREF(fail);
    self->fail = fail;
    self->idle = PyList_New(0);
    self->lock = PyThread_allocate_lock();
    if (self->idle == NULL || self->lock == NULL || read_arguments(self, inputs, outputs) < 0 ||
        read_symbols(self, symbols) < 0 || read_arrays(self, states, constants) < 0) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void caller_dealloc(PyObject *object) {
    Caller *self = (Caller *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->previous != NULL) self->previous->next = self->next;
    if (self->next != NULL) self->next->previous = self->previous;
    if (all_callers == self) all_callers = self->next;
    if (self->pool != NULL && self->pool_destroy != NULL) self->pool_destroy(self->pool);
    if (self->lock != NULL) PyThread_free_lock(self->lock);
    for (int k = 0; self->arguments != NULL && k < self->inputs + self->outputs; k++) {
        Py_XDECREF((PyObject *)self->arguments[k].descr);
        PyMem_Free(self->arguments[k].dims);
    }
    PyMem_Free(self->arguments);
    PyMem_Free(self->lowest);
    PyMem_Free(self->kept);
    PyMem_Free(self->state_ends);
    Py_XDECREF(self->arrays);
    Py_XDECREF(self->prepare);
    Py_XDECREF(self->new_arena);
    Py_XDECREF(self->fail);
    Py_XDECREF(self->idle);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef caller_methods[] = {
    {"call", (PyCFunction)(void (*)(void))caller_call, METH_FASTCALL,
     "call(*arrays): run the program; one output is an array, several are a tuple."},
    {"bind_state", caller_bind_state, METH_VARARGS,
     "bind_state(k, array): from now on state k lives in the memory of this (checked) array."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef caller_properties[] = {
    {"states", caller_states, NULL, "The arrays that hold the states.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot caller_slots[] = {
    {Py_tp_doc, "A compiled program, ready to be called."},
    {Py_tp_new, caller_new},
    {Py_tp_dealloc, caller_dealloc},
    {Py_tp_methods, caller_methods},
    {Py_tp_getset, caller_properties},
    {0, NULL},
};

static PyType_Spec caller_spec = {
    .name = "_intaglio_call.Caller",
    .basicsize = sizeof(Caller),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = caller_slots,
};

/* In a child made by fork only the calling thread lives: forget pools and locks, start anew. */
static PyObject *after_fork_in_child(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    for (Caller *one = all_callers; one != NULL; one = one->next) {
        one->pool = NULL;
        one->pool_started = one->pool_busy = 0;
        one->lock = PyThread_allocate_lock();
        if (one->lock == NULL) return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"after_fork_in_child", after_fork_in_child, METH_NOARGS,
     "Make every Caller usable in a process just forked."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_intaglio_call",
    .m_doc = "Calls into compiled programs.",
    .m_size = -1,
    .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__intaglio_call(void) {
    import_array();
    PyObject *module = PyModule_Create(&module_definition);
    if (module == NULL) return NULL;
    PyObject *type = PyType_FromSpec(&caller_spec);
    if (type == NULL || PyModule_AddObject(module, "Caller", type) < 0) {
        Py_XDECREF(type);
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
