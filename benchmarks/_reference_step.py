"""The reference training step in each framework, in its own process, which takes orders line by line.

conv 3x3 (3 -> 32), batch norm, ReLU, conv 3x3 (32 -> 32), batch norm, ReLU, max pool 2, conv 3x3 (32 -> 64), batch norm, ReLU,
max pool 2, linear 4096 -> 10, cross-entropy, SGD with momentum. float32; a factor widens the convolutions.

Run as a script by benchmarks/training_step.py. It needs NumPy (any version, so that old frameworks can run in an environment
of their own) and the one framework that it is asked for.
"""

import argparse
import json
import resource
import sys
import time

import numpy as np

LR, MOMENTUM, EPS = 0.001, 0.9, 1e-5
CHANNELS = ((3, 32), (32, 32), (32, 64))


def setting(batch, width):
    """Parameters as a list (weight, bias, gamma, beta of each convolution, then the linear layer's), images, labels."""
    rng = np.random.RandomState(0)
    parameters = []
    for i, (inputs, outputs) in enumerate(CHANNELS):
        inputs, outputs = inputs if i == 0 else int(inputs * width), int(outputs * width)
        parameters += [rng.normal(size=(outputs, inputs, 3, 3)) * (inputs * 9) ** -0.5, np.zeros(outputs), np.ones(outputs), np.zeros(outputs)]
    features = parameters[-1].size * 64
    parameters += [rng.normal(size=(10, features)) * features ** -0.5, np.zeros(10)]
    return [p.astype("float32") for p in parameters], rng.normal(size=(batch, 3, 32, 32)).astype("float32"), rng.randint(0, 10, batch)


def by_hand(parameters, gradients, velocities):
    """SGD with momentum for frameworks that give plain arrays."""
    for p, g, v in zip(parameters, gradients, velocities):
        v *= np.float32(MOMENTUM)
        v += g
        p -= np.float32(LR) * v


def minigrad(arrays, images, labels, threads, form="derived", look=True):
    """Our own, with Modules and the optimizer, as a user writes it; `look`: the loss as a number, which waits for a device."""
    import layers
    import minigrad as mg
    from minigrad import nn
    mg.tune_process(threads)

    def block(weight):
        return [nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1), layers.BatchNorm2d(weight.shape[0], eps=EPS, form=form), nn.ReLU()]
    first, second, third, linear = arrays[0], arrays[4], arrays[8], arrays[12]
    model = nn.Sequential(*block(first), *block(second), nn.MaxPool2d(2), *block(third), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(linear.shape[1], 10))
    names = [name for name, _ in model.named_parameters()]
    model.load_state_dict({**model.state_dict(), **dict(zip(names, arrays))})
    optimizer = mg.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    x, t = (mg.tensor(a, backend=mg.backend.current_name()) for a in (images, labels))

    def step():
        loss = mg.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item() if look else loss
    return step


def composed(*setting_and_threads):
    """Ours with batch norm as a graph of primitives."""
    return minigrad(*setting_and_threads, form="composed")


def torch(arrays, images, labels, threads, look=True):
    """PyTorch, eager."""
    import torch
    from torch import nn
    torch.set_num_threads(threads)

    def block(weight):
        return [nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1), nn.BatchNorm2d(weight.shape[0], eps=EPS), nn.ReLU()]
    model = nn.Sequential(*block(arrays[0]), *block(arrays[4]), nn.MaxPool2d(2), *block(arrays[8]), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Linear(arrays[12].shape[1], 10))
    with torch.no_grad():
        for p, a in zip(model.parameters(), arrays):
            p.copy_(torch.tensor(a))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    x, t = torch.tensor(images), torch.tensor(labels)

    def step():
        loss = nn.functional.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item() if look else loss
    return step


def chainer(arrays, images, labels, threads):
    """Chainer 7.8.1, whose NumPy must be older than 1.24."""
    import chainer
    import chainer.functions as F
    chainer.config.dtype = np.float32
    parameters = [chainer.Parameter(a) for a in arrays]
    velocities = [np.zeros_like(a) for a in arrays]
    t = labels.astype(np.int32)

    def step():
        h = images
        for i, pooled in ((0, False), (4, True), (8, True)):
            weight, bias, gamma, beta = parameters[i:i + 4]
            h = F.relu(F.batch_normalization(F.convolution_2d(h, weight, bias, pad=1), gamma, beta, eps=EPS))
            h = F.max_pooling_2d(h, 2) if pooled else h
        loss = F.softmax_cross_entropy(F.linear(h, *parameters[12:]), t)
        for p in parameters:
            p.cleargrad()
        loss.backward()
        by_hand([p.array for p in parameters], [p.grad for p in parameters], velocities)
        return float(loss.array)
    return step


def mygrad(arrays, images, labels, threads):
    """MyGrad with its own layers."""
    import mygrad
    from mygrad.nnet.activations import relu
    from mygrad.nnet.layers import batchnorm, conv_nd, max_pool
    from mygrad.nnet.losses import softmax_crossentropy
    parameters = [mygrad.tensor(a) for a in arrays]
    velocities = [np.zeros_like(a) for a in arrays]

    def step():
        h = images
        for i, pooled in ((0, False), (4, True), (8, True)):
            weight, bias, gamma, beta = parameters[i:i + 4]
            h = conv_nd(h, weight, stride=1, padding=1) + bias.reshape(1, -1, 1, 1)
            h = relu(batchnorm(h, gamma=gamma, beta=beta, eps=EPS))
            h = max_pool(h, (2, 2), 2) if pooled else h
        loss = softmax_crossentropy(mygrad.matmul(h.reshape(len(images), -1), parameters[12].T) + parameters[13], labels)
        loss.backward()
        by_hand([p.data for p in parameters], [p.grad for p in parameters], velocities)
        return loss.item()
    return step


def autograd(arrays, images, labels, threads):
    """HIPS/autograd has no convolution: one GEMM over shifted slices, the fast way to write it there."""
    import autograd.numpy as anp
    from autograd import value_and_grad
    onehot = np.eye(10, dtype="float32")[labels]
    velocities = [np.zeros_like(a) for a in arrays]

    def conv(x, weight, bias):
        n, c, h, w = x.shape
        padded = anp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), "constant")
        columns = anp.concatenate([padded[:, :, i:i + h, j:j + w].reshape(n, c, h * w) for i in range(3) for j in range(3)], axis=1)
        kernel = anp.transpose(weight, (0, 2, 3, 1)).reshape(weight.shape[0], -1)
        return anp.matmul(kernel, columns).reshape(n, -1, h, w) + bias.reshape(1, -1, 1, 1)

    def norm(x, gamma, beta):
        centred = x - anp.mean(x, (0, 2, 3), keepdims=True)
        var = anp.mean(centred * centred, (0, 2, 3), keepdims=True)
        return centred * (gamma.reshape(1, -1, 1, 1) / anp.sqrt(var + np.float32(EPS))) + beta.reshape(1, -1, 1, 1)

    def loss(parameters):
        h = images
        for i, pooled in ((0, False), (4, True), (8, True)):
            weight, bias, gamma, beta = parameters[i:i + 4]
            h = anp.maximum(norm(conv(h, weight, bias), gamma, beta), np.float32(0))
            if pooled:
                n, c, a, b = h.shape
                h = anp.max(anp.max(h.reshape(n, c, a // 2, 2, b // 2, 2), axis=5), axis=3)
        z = anp.dot(h.reshape(len(images), -1), parameters[12].T) + parameters[13]
        z = z - anp.max(z, axis=1, keepdims=True)
        return -anp.sum(onehot * (z - anp.log(anp.sum(anp.exp(z), axis=1, keepdims=True)))) / np.float32(len(images))
    both = value_and_grad(loss)

    def step():
        value, gradients = both(arrays)
        by_hand(arrays, gradients, velocities)
        return float(value)
    return step


def dezero(arrays, images, labels, threads):
    """DeZero with its own functions."""
    vars(np)["int"] = int  # a name that DeZero uses and NumPy has dropped
    import dezero
    import dezero.functions as F
    parameters = [dezero.Variable(a) for a in arrays]
    velocities = [np.zeros_like(a) for a in arrays]
    statistics = [(np.zeros_like(arrays[i]), np.ones_like(arrays[i])) for i in (2, 6, 10)]

    def step():
        h = dezero.Variable(images)
        for (i, pooled), (mean, var) in zip(((0, False), (4, True), (8, True)), statistics):
            weight, bias, gamma, beta = parameters[i:i + 4]
            h = F.conv2d(h, weight, bias, stride=1, pad=1)
            h = F.relu(F.batch_nrom(h, gamma, beta, mean, var, eps=EPS))
            h = F.pooling(h, 2, 2) if pooled else h
        loss = F.softmax_cross_entropy(F.linear(F.reshape(h, (len(images), -1)), F.transpose(parameters[12]), parameters[13]), labels)
        for p in parameters:
            p.cleargrad()
        loss.backward()
        by_hand([p.data for p in parameters], [p.grad.data for p in parameters], velocities)
        return float(loss.data)
    return step


FRAMEWORKS = {"minigrad": minigrad, "composed": composed, "PyTorch": torch, "Chainer": chainer, "MyGrad": mygrad, "HIPS/autograd": autograd, "DeZero": dezero}


def roofline():
    """GFLOP/s of a float32 matrix product of 1024 x 1024, and GB/s (read and written) of a copy of 256 MB, on one thread."""
    a, b = np.ones((2, 1024, 1024), "float32")
    big = np.ones((2, 1 << 25), "float32")

    def best(work):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)
    return {"GFLOP/s": 2 * 1024**3 / best(lambda: a @ b) / 1e9, "GB/s": 2 * big[0].nbytes / best(lambda: np.copyto(big[0], big[1])) / 1e9}


def profile(step, steps=20):
    """ms per step in each of minigrad's kernels (with one thread all work is in this one), and in numpy.matmul within them."""
    import cProfile
    import importlib
    import pstats
    conv = importlib.import_module("minigrad.kernels.conv")
    spent = [0.0]

    class Products:  # a namespace that times its matmul
        def __getattr__(self, name):
            return getattr(np, name)

        def matmul(self, *arguments, **keywords):
            start = time.perf_counter()
            result = np.matmul(*arguments, **keywords)
            spent[0] += time.perf_counter() - start
            return result
    for name in ("correlate_cpu", "correlate_weight_cpu"):
        setattr(conv, name, (lambda original: lambda xp, *arguments: original(Products(), *arguments))(getattr(conv, name)))
    for _ in range(5):
        step()
    spent[0] = 0.0
    start = time.perf_counter()
    for _ in range(steps):
        step()
    whole, products = time.perf_counter() - start, spent[0]
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(steps):
        step()
    profiler.disable()
    parts = {"correlate_cpu": "convolution, forward and dx", "correlate_weight_cpu": "convolution, dw", "moments": "moments", "paired_sums": "paired sums",
             "combine": "combine", "spread": "relu", "gate": "relu's backward", "max_pool2d_forward": "max pooling",
             "max_pool2d_backward": "max pooling's backward",
             "matmul": "linear layer"}
    found = {}
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profiler).stats.items():
        if "kernels" in file and name in parts:
            found[parts[name]] = found.get(parts[name], 0.0) + cumulative / steps * 1e3
    return {"ms per step": whole / steps * 1e3, "of that numpy.matmul in convolutions": products / steps * 1e3, "kernels": found}


def main():
    """Announce versions, then answer each line: {"steps": n} with losses and seconds, {"peak": 1} with the process's peak bytes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=(*FRAMEWORKS, "roofline", "profile"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    options = parser.parse_args()
    if options.framework == "roofline":
        print(json.dumps(roofline()), flush=True)
        return
    if options.framework == "profile":
        print(json.dumps(profile(minigrad(*setting(options.batch, options.width), options.threads))), flush=True)
        return
    step = FRAMEWORKS[options.framework](*setting(options.batch, options.width), options.threads)
    print(json.dumps({"numpy": np.__version__, "python": sys.version.split()[0]}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        losses, seconds = [], []
        for _ in range(order.get("steps", 0)):
            start = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"losses": losses, "seconds": seconds, "peak": peak}), flush=True)


if __name__ == "__main__":
    main()
