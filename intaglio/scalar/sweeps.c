/* Linear sweeps over the columns of a scalar graph: what NumPy cannot say without a pass per level.
 *
 * A node is a row; `a`, `b`, `c` are its operands' rows, -1 for none. A FOLD is a left-to-right sum: `a` is
 * its start, `c` terms stand in `terms` from `b` on. Every function is one or two passes over all rows.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { CONST = 0, ADD = 1, MUL = 2, POW = 3, RELU = 4, EXP = 5, LOG = 6, TANH = 7, MAX = 8 };
enum { UPDATE = 14, FOLD = 15, COPY = 16, PARAM = 17, INPUT = 18 };

typedef int32_t row;
typedef int64_t wide;

/* Rows below the roots, operands first, in the order of a depth-first search; into `order`, and each row's
 * place into `place` (-1: not reached). Returns how many, or -1 - r for a row r that is its own operand. */
wide postorder(wide n, const uint8_t *op, const row *a, const row *b, const row *c, const row *terms,
               wide roots, const row *root, row *order, row *place, row *stack, row *next)
{
    wide done = 0;
    for (wide i = 0; i < n; i++) place[i] = -1;
    for (wide r = 0; r < roots; r++) {
        wide depth = 0;
        if (place[root[r]] != -1) continue;
        stack[depth++] = root[r];
        place[root[r]] = -2;
        next[root[r]] = 0;
        while (depth) {
            row v = stack[depth - 1], child = -1;
            row k = next[v]++;
            if (op[v] == FOLD) {
                if (k == 0) child = a[v];
                else if (k <= c[v]) child = terms[b[v] + k - 1];
                else k = 1 << 30;
            } else if (k < 3) {
                child = k == 0 ? a[v] : k == 1 ? b[v] : c[v];
                if (child < 0) continue;
            } else k = 1 << 30;
            if (k == 1 << 30) {
                depth--;
                place[v] = (row)done;
                order[done++] = v;
            } else if (place[child] == -1) {
                place[child] = -2;
                next[child] = 0;
                stack[depth++] = child;
            } else if (place[child] == -2) return -1 - child;
        }
    }
    return done;
}

/* Which rows depend on a row that is marked already. Rows stand behind their operands. */
void dependent(wide n, const row *a, const row *b, uint8_t *marked)
{
    for (wide i = 0; i < n; i++)
        if ((a[i] >= 0 && marked[a[i]]) || (b[i] >= 0 && marked[b[i]])) marked[i] = 1;
}

/* Uses, up to row `root`, of rows that need a gradient. `starts` [n + 1] gets how many stand before each
 * row's own; returns how many there are. */
wide count_edges(wide root, wide n, const row *a, const row *b, const uint8_t *needs, row *starts)
{
    memset(starts, 0, (size_t)(n + 1) * sizeof *starts);
    for (wide i = 0; i <= root; i++) {
        if (a[i] >= 0 && needs[a[i]]) starts[a[i] + 1]++;
        if (b[i] >= 0 && needs[b[i]]) starts[b[i] + 1]++;
    }
    for (wide i = 0; i < n; i++) starts[i + 1] += starts[i];
    return starts[n];
}

/* Those uses by the row that is used, each row's from the last reader to the first: the reader and its operand. */
void group_edges(wide root, wide n, const row *a, const row *b, const uint8_t *needs, row *starts, row *out,
                 uint8_t *slot)
{
    for (wide i = root; i >= 0; i--)
        for (int s = 0; s < 2; s++) {
            row child = s ? b[i] : a[i];
            if (child < 0 || !needs[child]) continue;
            slot[starts[child]] = (uint8_t)s;
            out[starts[child]++] = (row)i;
        }
    memmove(starts + 1, starts, (size_t)n * sizeof *starts);
    starts[0] = 0;
}

void count_uses(wide n, const uint8_t *op, const row *a, const row *b, const row *c, const row *terms, row *uses)
{
    memset(uses, 0, (size_t)n * sizeof *uses);
    for (wide i = 0; i < n; i++) {
        if (a[i] >= 0) uses[a[i]]++;
        if (op[i] == FOLD) {
            for (row k = 0; k < c[i]; k++) uses[terms[b[i] + k]]++;
            continue;
        }
        if (b[i] >= 0) uses[b[i]]++;
        if (c[i] >= 0) uses[c[i]]++;
    }
}

/* Chains of sums become folds. `kept` rows are seen from outside; `uses` counts readers of the data.
 * A chain of at least `least` sums is turned in place: a = start, b = first term, c = number of terms. Its inner
 * sums become dead. A start that is itself a computed row becomes a term behind a start of -0.0, row `zero`. */
wide fold_chains(wide n, uint8_t *op, row *a, row *b, row *c, const row *uses, const uint8_t *kept, wide zero,
                 wide least, row *terms, wide used, row *length, uint8_t *inner)
{
    memset(inner, 0, (size_t)n);
    for (wide i = 0; i < n; i++) {
        length[i] = 0;
        if (op[i] != ADD) continue;
        length[i] = 1;
        for (int side = 0; side < 2; side++) {
            row p = side ? b[i] : a[i];
            if (op[p] != ADD || uses[p] != 1 || kept[p]) continue;
            if (side) { b[i] = a[i]; a[i] = p; }
            inner[p] = 1;
            length[i] = length[p] + 1;
            break;
        }
    }
    for (wide i = 0; i < n; i++) {
        if (op[i] != ADD || inner[i] || length[i] < least) continue;
        row at = (row)i, start, first;
        row k = length[i];
        wide place = used + k;
        while (k--) {
            terms[place--] = b[at];
            first = b[at];
            start = a[at];
            at = start;
        }
        if (op[start] != CONST && op[first] == CONST) { terms[used + 1] = start; start = first; }
        if (op[start] != CONST && op[start] != PARAM && op[start] != INPUT && uses[start] == 1) {
            terms[used] = start;
            b[i] = (row)used;
            c[i] = length[i] + 1;
            a[i] = (row)zero;
        } else {
            b[i] = (row)used + 1;
            c[i] = length[i];
            a[i] = start;
        }
        used += length[i] + 1;
        op[i] = FOLD;
    }
    return used;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
    h *= 0xff51afd7ed558ccdu;
    return h ^ (h >> 32);
}

/* Which rows get memory: those read more than once, by another phase or from outside, folds, rows that may
 * fault (`partial` by operator), and the tops of expressions of more than `largest` operations. */
void choose_stored(wide n, const uint8_t *op, const row *a, const row *b, const row *c, const row *terms,
                   const uint8_t *phase, const row *uses, const uint8_t *kept, const uint8_t *partial,
                   wide largest, uint8_t *stored, uint8_t *deferred, row *size, uint8_t *reads_param)
{
    for (wide i = 0; i < n; i++) {
        uint8_t o = op[i];
        stored[i] = deferred[i] = reads_param[i] = 0;
        size[i] = 0;
        if (o == CONST || o == PARAM || o == INPUT) { reads_param[i] = o == PARAM; continue; }
        row of[3] = {a[i], o == FOLD ? -1 : b[i], o == FOLD ? -1 : c[i]};
        size[i] = 1;
        for (int k = 0; k < 3; k++) {
            row p = of[k];
            if (p < 0) continue;
            if (!stored[p] && size[p] && phase[p] != phase[i]) {
                if (o == UPDATE && k == 1 && uses[p] == 1 && !reads_param[p] && !kept[p]) deferred[p] = 1;
                else stored[p] = 1;
            }
            if (!stored[p]) { size[i] += size[p]; reads_param[i] |= reads_param[p]; }
        }
        if (o == FOLD)
            for (row k = 0; k < c[i]; k++) {
                row p = terms[b[i] + k];
                if (!stored[p] && size[p] && phase[p] != phase[i]) stored[p] = 1;
            }
        stored[i] = o == FOLD || o == UPDATE || uses[i] != 1 || kept[i] || partial[o] || size[i] > largest;
        if (stored[i]) reads_param[i] = 0;
    }
}

static int is_leaf(uint8_t op) { return op == CONST || op == PARAM || op == INPUT; }

/* Level: how many stored rows must come before, within all phases. */
void levels(wide n, const uint8_t *op, const row *a, const row *b, const row *c, const row *terms,
            const uint8_t *stored, row *level)
{
    for (wide i = 0; i < n; i++) {
        row deepest = 0;
        if (!is_leaf(op[i])) {
            row of[3] = {a[i], op[i] == FOLD ? -1 : b[i], op[i] == FOLD ? -1 : c[i]};
            for (int k = 0; k < 3; k++)
                if (of[k] >= 0 && level[of[k]] > deepest) deepest = level[of[k]];
            if (op[i] == FOLD)
                for (row k = 0; k < c[i]; k++)
                    if (level[terms[b[i] + k]] > deepest) deepest = level[terms[b[i] + k]];
        }
        level[i] = deepest + stored[i];
    }
}

/* For every row the level of the stored row it is computed in; for leaves the lowest one that reads them. */
void home_levels(wide n, const uint8_t *op, const row *a, const row *b, const row *c, const row *terms,
                 const uint8_t *stored, const row *level, row *home)
{
    for (wide i = 0; i < n; i++) home[i] = INT32_MAX;
    for (wide i = n - 1; i >= 0; i--) {
        if (is_leaf(op[i])) continue;
        if (stored[i]) home[i] = level[i];
        row h = home[i];
        row of[3] = {a[i], op[i] == FOLD ? -1 : b[i], op[i] == FOLD ? -1 : c[i]};
        for (int k = 0; k < 3; k++)
            if (of[k] >= 0 && !stored[of[k]] && h < home[of[k]]) home[of[k]] = h;
        if (op[i] == FOLD)
            for (row k = 0; k < c[i]; k++)
                if (!stored[terms[b[i] + k]] && h < home[terms[b[i] + k]]) home[terms[b[i] + k]] = h;
    }
}

/* What a row computes, as a hash: `colour` knows operators and kinds of operands, `fine` also the levels of
 * operands outside of sums. Equal rows of one level become one loop. `seen` is what readers know of a row. */
void colours(wide n, const uint8_t *op, const row *a, const row *b, const row *c, const double *k,
             const row *terms, const uint8_t *stored, const uint8_t *class_of, const uint8_t *phase,
             const row *level, const row *home, uint64_t *colour, uint64_t *fine, uint64_t *seen)
{
    for (wide i = 0; i < n; i++) {
        uint64_t h = mix(1, op[i]), f;
        if (op[i] == POW) { uint64_t bits; memcpy(&bits, &k[i], 8); h = mix(h, bits); }
        f = h;
        if (!is_leaf(op[i])) {
            row of[3] = {a[i], op[i] == FOLD ? -1 : b[i], op[i] == FOLD ? -1 : c[i]};
            for (int s = 0; s < 3; s++) {
                row p = of[s];
                if (p < 0) continue;
                h = mix(h, seen[p]);
                if (op[p] == PARAM) f = mix(f, mix(seen[p], (uint64_t)home[p]));
                else if (is_leaf(op[p])) f = mix(f, seen[p]);
                else f = mix(f, stored[p] ? mix(seen[p], (uint64_t)level[p]) : fine[p]);
            }
            if (op[i] == FOLD)
                for (row s = 0; s < c[i]; s++) {
                    h = mix(h, seen[terms[b[i] + s]]);
                    f = mix(f, seen[terms[b[i] + s]]);
                }
        }
        colour[i] = h;
        fine[i] = f;
        if (is_leaf(op[i])) seen[i] = mix(2, op[i]);
        else seen[i] = stored[i] ? mix(mix(3, class_of[op[i]]), phase[i]) : h;
    }
}

/* The meaning of a captured graph, row by row as the interpreter has it; where Python raises, an infinity or NaN. */
void forward_pass(wide n, const uint8_t *op, const row *a, const row *b, const double *k, double *data)
{
    for (wide i = 0; i < n; i++) {
        if (a[i] < 0) continue;
        double x = data[a[i]], y = b[i] >= 0 ? data[b[i]] : 0;
        switch (op[i]) {
        case ADD: data[i] = x + y; break;
        case MUL: data[i] = x * y; break;
        case POW: data[i] = pow(x, k[i]); break;
        case RELU: data[i] = x < 0 ? 0 : x; break;
        case EXP: data[i] = exp(x); break;
        case LOG: data[i] = log(x); break;
        case TANH: data[i] = tanh(x); break;
        case MAX: data[i] = y > x ? y : x; break;
        }
    }
}

/* Adds to `grad` what flows back from `grad[root]`. */
void backward_pass(wide root, const uint8_t *op, const row *a, const row *b, const double *k, const double *data,
                   double *grad)
{
    for (wide i = root; i >= 0; i--) {
        if (a[i] < 0) continue;
        double g = grad[i], x = data[a[i]], y = data[i];
        switch (op[i]) {
        case ADD: grad[a[i]] += g; grad[b[i]] += g; break;
        case MUL: grad[a[i]] += data[b[i]] * g; grad[b[i]] += x * g; break;
        case POW: grad[a[i]] += k[i] * pow(x, k[i] - 1) * g; break;
        case RELU: grad[a[i]] += (y > 0) * g; break;
        case EXP: grad[a[i]] += y * g; break;
        case LOG: grad[a[i]] += 1 / x * g; break;
        case TANH: grad[a[i]] += (1 - pow(y, 2)) * g; break;
        case MAX: grad[x > data[b[i]] ? a[i] : b[i]] += g; break;
        }
    }
}
