// A training step in C++ with libtorch, as a peer process: libtorch_step WORK BATCH THREADS
#include <torch/torch.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>

struct Reader : torch::nn::Module {
    torch::nn::LSTM lstm{nullptr};
    torch::nn::Linear head{nullptr};
    Reader()
    {
        lstm = register_module("lstm", torch::nn::LSTM(torch::nn::LSTMOptions(28, 128).batch_first(true)));
        head = register_module("head", torch::nn::Linear(128, 10));
    }
    torch::Tensor forward(torch::Tensor x)
    {
        auto out = std::get<0>(lstm->forward(x));
        return head->forward(out.select(1, 27));
    }
};

static double seconds_of(const std::function<void()> &work, int repeats)
{
    const auto started = std::chrono::steady_clock::now();
    for (int k = 0; k < repeats; k++) {
        work();
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count() / repeats;
}

int main(int argc, char **argv)
{
    namespace nn = torch::nn;
    const std::string work = argc > 1 ? argv[1] : "mlp";
    const int64_t batch = argc > 2 ? std::stoi(argv[2]) : 1;
    torch::set_num_threads(argc > 3 ? std::stoi(argv[3]) : 1);

    nn::Sequential mlp(nn::Linear(784, 128), nn::ReLU(), nn::Linear(128, 10));
    nn::Sequential cnn(nn::Conv2d(nn::Conv2dOptions(1, 16, 3).padding(1)), nn::ReLU(), nn::MaxPool2d(2),
                       nn::Conv2d(nn::Conv2dOptions(16, 32, 3).padding(1)), nn::ReLU(), nn::MaxPool2d(2),
                       nn::Flatten(), nn::Linear(32 * 7 * 7, 10));
    auto lstm = std::make_shared<Reader>();

    torch::Tensor x;
    std::vector<torch::Tensor> parameters;
    std::function<torch::Tensor(torch::Tensor)> forward;
    if (work == "mlp") {
        x = torch::rand({batch, 784});
        parameters = mlp->parameters();
        forward = [&](torch::Tensor in) { return mlp->forward(in); };
    } else if (work == "cnn") {
        x = torch::rand({batch, 1, 28, 28});
        parameters = cnn->parameters();
        forward = [&](torch::Tensor in) { return cnn->forward(in); };
    } else {
        x = torch::rand({batch, 28, 28});
        parameters = lstm->parameters();
        forward = [&](torch::Tensor in) { return lstm->forward(in); };
    }
    const auto y = torch::randint(0, 10, {batch}, torch::kLong);
    torch::optim::SGD optimizer(parameters, torch::optim::SGDOptions(0.01).momentum(0.9).dampening(0.9));
    const std::function<void()> step = [&] {
        optimizer.zero_grad();
        torch::nn::functional::cross_entropy(forward(x), y).backward();
        optimizer.step();
    };
    seconds_of(step, 5);
    const int repeats = std::max(1, static_cast<int>(0.25 / seconds_of(step, 5)));
    std::puts("ready");
    std::fflush(stdout);
    for (int c = std::getchar(); c != EOF; c = std::getchar()) {
        if (c == '\n') {
            std::printf("%.9f\n", seconds_of(step, repeats));
            std::fflush(stdout);
        }
    }
    return 0;
}
