"""Attacks on the grader: files that try to get points without deriving, to harm others, or to break the grading.

Each is handed in for 02_batch_norm. Its d_beta is honest work, worth 1 point; d_gamma, or the whole file, is the attack. What must hold
(tests/test_attacks.py): nobody else's row changes, nothing outside is read or changed, nothing is left behind, and the attack earns nothing.
docs/security.md lists them.
"""

import textwrap
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "lectures" / "homework" / "02_batch_norm"
HONEST = "import gc, os, sys, time\nimport numpy as np\n\n\ndef d_beta(d_y):\n    return np.sum(d_y, axis=0)\n"


@dataclass
class Attack:
    """A file, and what it costs: "line" (the honest line keeps its point), "file" (it may not), "flag" (right, but flagged; none under --strict).

    @outside@, @tmp@, @port@ in the text: a folder that is not to be touched, that of temporary files, and a port on which somebody listens.
    """

    text: str
    costs: str = "line"
    files: dict = field(default_factory=dict)  # besides lines.py
    without_wall: bool = True                  # whether it may be tried where there is no wall: it is no attack on the machine


def line(body, args="d_y, gamma", **more):
    """d_gamma runs this."""
    return Attack(f"{HONEST}\n\ndef d_gamma({args}):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n", **more)


def top(body, **more):
    """The file runs this when it is loaded, before its functions."""
    return Attack(f"import gc, os, sys, time\nimport numpy as np\n{textwrap.dedent(body).strip()}\n\n\n{HONEST}", **{"costs": "file", **more})


def end(body, **more):
    """The file runs this when it is loaded, after its functions."""
    return Attack(f"{HONEST}\n\n{textwrap.dedent(body).strip()}\n", **{"costs": "file", **more})


USE = """
space = {}
exec(text, space)
return space["d_gamma"](d_y, xhat)
"""
ANSWER = '{"kind": "array", "dtype": "<f8", "shape": [3], "bytes": 24}\\n'
REPORT = ('{"id": 1, "kind": "done", "bytes": 0, "ended": null, "report": {"task": "02_batch_norm", "status": "ok", "earned": 12, "points": 12, "lines": '
          '[{"line": "d_gamma", "verdict": "right", "earned": 1, "points": 1}]}\\n')

ATTACKS = {
    # -- looking for the answers ---------------------------------------------------------------------------------------------
    "frames of the callers": line("""
        f = sys._getframe()
        while f:
            for v in [*f.f_locals.values(), *f.f_globals.values()]:
                if hasattr(v, 'adjoints'):
                    return v.adjoints['gamma']
            f = f.f_back
        return None"""),
    "objects of the garbage collector": line("""
        for o in gc.get_objects():
            if isinstance(o, dict) and isinstance(o.get('gamma'), np.ndarray) and o['gamma'] is not gamma:
                return o['gamma']
        found = [o for o in gc.get_objects() if isinstance(o, np.ndarray) and o.shape == gamma.shape and o is not gamma]
        return found[-1] if found else gamma"""),
    "TASK in sys.modules": line("""
        task = next(m.TASK for m in sys.modules.values() if hasattr(m, 'TASK'))
        import minigrad as mg
        return mg.grad(task.forward)(gamma)"""),
    "the layers' registry": line("import layers\nreturn layers.REGISTRY['batch_norm'].form('derived')(d_y, gamma)"),
    "minigrad's own autodiff": line("import minigrad as mg\nt = mg.tensor(gamma, requires_grad=True)\nreturn mg.grad((t * d_y).sum(), [t])[0].numpy()"),
    "torch's autodiff": line("import torch\nt = torch.tensor(gamma, requires_grad=True)\n(t * torch.tensor(d_y)).sum().backward()\nreturn t.grad.numpy()"),
    "minigrad from its folder": line(f"sys.path.insert(0, {str(ROOT)!r})\nimport importlib\nreturn importlib.import_module('minigrad.ops').sum(d_y)"),
    "a neighbour's copy": line("import glob\nfor p in glob.glob('@tmp@/**/*.py', recursive=True):\n    if os.getcwd() not in p:\n"
                               "        text = open(p).read()\n"
                               "        break" + USE, "d_y, xhat"),
    "a neighbour's submission": line("text = open('@outside@/submissions/n honest/02_batch_norm.py').read()" + USE, "d_y, xhat"),
    "the key": line(f"text = open({str(MODEL / 'lines.py')!r}).read()" + USE, "d_y, xhat"),
    "the key by import": line(f"sys.path.insert(0, {str(MODEL)!r})\nsys.modules.pop('lines')\nimport lines\nreturn lines.d_gamma(d_y, xhat)", "d_y, xhat"),
    "the key by runpy": line(f"import runpy\nreturn runpy.run_path({str(MODEL / 'lines.py')!r})['d_gamma'](d_y, xhat)", "d_y, xhat"),
    "the key by linecache": line(f"import linecache\ntext = ''.join(linecache.getlines({str(MODEL / 'lines.py')!r}))" + USE, "d_y, xhat"),
    "the key by dir_fd": line(f"d = os.open({str(MODEL)!r}, os.O_PATH)\n"
                              f"text = os.fdopen(os.open('lines.py', os.O_RDONLY, dir_fd=d)).read()" + USE, "d_y, xhat"),
    "the key through a link": line(f"os.symlink({str(MODEL / 'lines.py')!r}, 'link.py')\ntext = open('link.py').read()" + USE, "d_y, xhat"),
    "the key through a hard link": line(f"os.link({str(MODEL / 'lines.py')!r}, 'link.py')\ntext = open('link.py').read()" + USE, "d_y, xhat"),
    "the key by memmap": line(f"text = bytes(np.memmap({str(MODEL / 'lines.py')!r}, 'uint8', 'r')).decode()" + USE, "d_y, xhat"),
    "the key by fromfile": line(f"text = np.fromfile({str(MODEL / 'lines.py')!r}, 'uint8').tobytes().decode()" + USE, "d_y, xhat"),
    "the key by readline": line(f"import readline\nreadline.read_history_file({str(MODEL / 'lines.py')!r})\n"
                                "text = '\\n'.join(readline.get_history_item(i + 1) for i in range(readline.get_current_history_length()))" + USE, "d_y, xhat"),
    "the key by another file name": line(
        f"exec(compile(\"global text; text = open({str(MODEL / 'lines.py')!r}).read()\", np.__file__, 'exec'), globals())" + USE, "d_y, xhat"),
    "the key, with the guard switched off": line(
        f"sys.modules['inside.worker'].at_work = True\ntext = open({str(MODEL / 'lines.py')!r}).read()" + USE, "d_y, xhat", without_wall=False),
    "the key by a loader": line(f"import importlib.machinery\nloader = importlib.machinery.SourceFileLoader('x', {str(MODEL / 'lines.py')!r})\n"
                                "text = loader.get_data(loader.path).decode()" + USE, "d_y, xhat"),
    "the key by mmap of /proc/self/root": line(f"text = open('/proc/self/root' + {str(MODEL / 'lines.py')!r}).read()" + USE, "d_y, xhat"),
    "the key by /proc/self/cwd": line(f"text = open('/proc/self/cwd/../../../../../../../..' + {str(MODEL / 'lines.py')!r}).read()" + USE, "d_y, xhat"),
    "sources of the judge's process": line("text = open(f'/proc/{os.getppid()}/cmdline').read()" + USE, "d_y, xhat"),
    "environment of other processes": line("""
        for p in range(1, 1000):
            try:
                open(f'/proc/{p}/environ').read()
                return gamma
            except OSError:
                pass
        raise ValueError"""),
    "memory of the parent": line("with open(f'/proc/{os.getppid()}/mem', 'rb') as f:\n    f.seek(2**30)\n    return np.frombuffer(f.read(8 * gamma.size))"),
    "memory by process_vm_readv": line("import ctypes\nctypes.CDLL(None).process_vm_readv(os.getppid(), 0, 0, 0, 0, 0)\nreturn gamma"),
    "memory beyond an array": line("return np.lib.stride_tricks.as_strided(gamma, (1 << 20,))[1 << 12:][:gamma.size].copy()"),
    "memory of np.empty": line("return np.empty(gamma.shape)"),
    "a core file": line("import resource\nresource.setrlimit(resource.RLIMIT_CORE, (10**9, 10**9))\nos.abort()"),
    "trace functions": line("""
        seen = []
        sys.setprofile(lambda frame, event, arg: seen.append(arg))
        np.sum(d_y)
        sys.setprofile(None)
        return next(a for a in seen if getattr(a, 'shape', None) == gamma.shape)"""),
    "asking for itself": line("return d_gamma", "d_gamma"),
    "asking for what does not depend on it": line("return d_beta", "d_beta"),
    "asking for everything": Attack(f"{HONEST}\n\ndef d_gamma(**everything):\n    return everything['d_gamma']\n"),
    "a signature that lies": Attack(
        f"{HONEST}\n\ndef d_gamma(**given):\n    return given['d_gamma']\n\n\nimport inspect\nd_gamma.__signature__ = inspect.Signature("
        "[inspect.Parameter('d_gamma', inspect.Parameter.KEYWORD_ONLY)])\n"),
    "a parameter called __class__": line("return type(__class__)", "__class__"),
    "requests for functions of the task": line("""
        worker = sys.modules['inside.worker']
        f, ask = sys._getframe(), None
        while f:
            for v in f.f_locals.values():
                ask = v if isinstance(v, worker.Asking) else ask
            f = f.f_back
        for name in ('forward', 'd_gamma', '__import__', 'gamma'):
            try:
                return ask(name, [d_y])
            except ValueError:
                pass
        return None"""),
    # -- answers that were not derived -----------------------------------------------------------------------------------------
    "complex step": line("e = 1e-30j * np.eye(gamma.size)\n"
                         "return np.array([np.sum(d_y * (xhat * (gamma + e[i]) + beta)).imag / 1e-30 for i in range(gamma.size)])",
                         "d_y, xhat, gamma, beta", costs="flag"),
    "central differences": line("""
        h, found = 1e-4, np.zeros_like(gamma)
        for i in range(gamma.size):
            e = h * (np.arange(gamma.size) == i)
            found[i] = (np.sum(d_y * (xhat * (gamma + e) + beta)) - np.sum(d_y * (xhat * (gamma - e) + beta))) / (2 * h)
        return found""", "d_y, xhat, gamma, beta", costs="flag"),
    "a step from the machine": line("""
        h, found = np.finfo(float).eps ** 0.25, np.zeros_like(gamma)
        for i in range(gamma.size):
            e = h * (np.arange(gamma.size) == i)
            found[i] = (np.sum(d_y * (xhat * (gamma + e) + beta)) - np.sum(d_y * (xhat * (gamma - e) + beta))) / (2 * h)
        return found""", "d_y, xhat, gamma, beta", costs="flag"),
    "eval of a text": line("return eval('np.sum(d_y * xhat, 0)')", "d_y, xhat", costs="flag"),
    "a wrong sign in float32": line("return np.sum(d_y * xhat, 0) * (1 if d_y.dtype == np.float64 else -1)", "d_y, xhat"),
    "a wrong sign in float64": line("return np.sum(d_y * xhat, 0) * (-1 if d_y.dtype == np.float64 else 1)", "d_y, xhat"),
    "noise that calls itself rounding": line("return (np.sum(d_y * xhat, 0) * (1 + 1e-3 * np.random.randn(xhat.shape[1]))).astype('float32')", "d_y, xhat"),
    "NaN everywhere": line("return np.full(gamma.shape, np.nan)"),
    "infinity": line("return np.full(gamma.shape, np.inf)"),
    "the largest number": line("return np.full(gamma.shape, 1.7976931348623157e308)"),
    "denormal zeros": line("return np.full(gamma.shape, 5e-324)"),
    "an array that is equal to everything": line("""
        class Equal(np.ndarray):
            def __eq__(self, other):
                return np.ones(self.shape, bool)
            __sub__ = __rsub__ = __abs__ = lambda self, *_: np.zeros(self.shape)
            def __array_ufunc__(self, *_, **__):
                return np.zeros(self.shape)
        return np.zeros(gamma.shape).view(Equal)"""),
    "an array that is made twice": line("""
        class Twice:
            shape, dtype, size = gamma.shape, gamma.dtype, gamma.size
            def __array__(self, *_, **__):
                return np.zeros(self.shape)
        return Twice()"""),
    "objects": line("return np.array([object()] * gamma.size, dtype=object)"),
    "a generator": line("return (g for g in gamma)"),
    "a list": line("return [0.0] * gamma.size"),
    "a text": line("return 'right'"),
    "text in an array": line("return np.array(['right'] * gamma.size)"),
    "a structured array": line("return np.zeros(gamma.size, [('x', 'f8'), ('y', 'O')])"),
    "a masked array": line("return np.ma.masked_all(gamma.shape)"),
    "dates": line("return np.zeros(gamma.shape, 'M8[s]')"),
    "truth": line("return np.ones(gamma.shape, bool)"),
    "half a float": line("return (np.sum(d_y * xhat, 0) + 0.5).astype('float16')", "d_y, xhat"),
    "an enormous shape": line("return np.broadcast_to(0.0, (10**9,))"),
    "an impossible shape": line("return np.broadcast_to(np.zeros(0), (2**31, 2**31, 0))"),
    "many axes": line("return np.zeros((1,) * 32)"),
    "an enormous integer": line("return 10 ** 100_000"),
    "a number that is no number": line("class N(float):\n    def __float__(self):\n        return 1 / 0\nreturn N(1)"),
    "a buffer": line("return memoryview(gamma)"),
    "its argument, changed": line("d_y[...] = 0\nreturn np.zeros(gamma.shape)"),
    "its argument, changed behind its back": line("np.lib.stride_tricks.as_strided(d_y)[...] = 0\nreturn np.sum(d_y, 0)"),
    "another line's result": line("return globals()['d_beta'](d_y)"),
    # -- forging what the judge is told ---------------------------------------------------------------------------------------
    "a forged report in every descriptor": line(f"for fd in range(256):\n    try:\n        os.write(fd, b'{REPORT}')\n    except OSError:\n"
                                                f"        pass\nraise ValueError"
),
    "a forged report through /proc": line(f"for p in (os.getppid(), os.getpid(), 1):\n    for fd in range(16):\n        try:\n"
                                          f"            open('/proc/%d/fd/%d' % (p, fd), 'w').write('{REPORT}')\n        except OSError:\n            pass\n"
                                          "raise ValueError"),
    "a forged report when it is loaded": top(f"for fd in range(3, 256):\n    try:\n        os.write(fd, b'{REPORT}')\n    except OSError:\n        pass"
                                             ),
    "answers ahead of their time": line(f"for fd in range(3, 64):\n    for _ in range(8):\n        try:\n            os.write(fd, b'{ANSWER}' + bytes(24))\n"
                                        "        except OSError:\n            pass\nreturn np.zeros(gamma.shape)"),
    "a printed report": line(f"print('{REPORT}')\nprint('{REPORT}', file=sys.stderr)\nraise ValueError"),
    "no wall, it says": top("for fd in range(3, 64):\n    try:\n"
                            "        os.write(fd, b'{\"kind\": \"confined\", \"name\": \"best\", \"apart\": true, \"bytes\": 0}\\n')\n"
                            "    except OSError:\n        pass"),
    "functions that are none": top("for fd in range(3, 64):\n    try:\n"
                                   "        os.write(fd, b'{\"kind\": \"loaded\", \"functions\": {\"d_gamma\": [[[], {}, 7]]}, \"bytes\": 0}\\n')\n"
                                   "    except OSError:\n        pass"),
    "a head without end": top("for fd in range(3, 64):\n    try:\n        while True:\n            os.write(fd, b'x' * 65536)\n    except OSError:\n"
                              "        pass"),
    "a body without end": top("for fd in range(3, 64):\n    try:\n        os.write(fd, b'{\"kind\": \"part\", \"bytes\": 99999999999999}\\n"
                              "' + bytes(1 << 20))\n"
                              "    except OSError:\n        pass"),
    "nested JSON": top("for fd in range(3, 64):\n    try:\n        os.write(fd, b'[' * 500_000 + b'\\n')\n    except OSError:\n        pass"),
    "a long number in JSON": top("for fd in range(3, 64):\n    try:\n        os.write(fd, b'{\"bytes\": ' + b'9' * 500_000 + b'}\\n')\n"
                                 "    except OSError:\n        pass"),
    "json.dumps replaced": end(f"import json\njson.dumps = lambda *a, **b: '{REPORT.strip()}'"),
    "os.write replaced": end("real = os.write\nos.write = lambda fd, data: real(fd, bytes(data).replace(b'error', b'array')) and len(data)"),
    "NumPy replaced": end("np.asarray = lambda *a, **b: np.zeros(3)\nnp.array_equal = lambda *a, **b: True\nnp.ascontiguousarray = np.asarray"),
    "sys.modules replaced": end("import types\nfor name in ('json', 'numpy', 'os', 'select', 'time'):\n    sys.modules[name] = types.ModuleType(name)"),
    "the worker's own functions replaced": end("for name in ('described', 'invoked', 'written', 'failed'):\n"
                                               "    setattr(sys.modules['inside.worker'], name, print)"),
    "builtins replaced": end("import builtins\nfor name in ('len', 'isinstance', 'print', 'dict', 'list', 'range', 'str', 'int'):\n"
                             "    setattr(builtins, name, None)"),
    "an audit hook of its own": end("def hook(event, args):\n    raise RuntimeError(event)\nsys.addaudithook(hook)"),
    "an import hook": end("class Hook:\n    def find_spec(self, *a):\n        raise SystemExit\nsys.meta_path.insert(0, Hook())"),
    "standard output replaced": end("class Out:\n    def __getattr__(self, name):\n        raise KeyboardInterrupt\nsys.stdout = sys.stderr = Out()"),
    "descriptors exchanged": line("for a in range(3, 12):\n    for b in range(3, 12):\n        try:\n            os.dup2(a, b)\n"
                                  "        except OSError:\n            pass\n"
                                  "return np.zeros(gamma.shape)"),
    "descriptors closed": line("os.closerange(0, 256)\nreturn np.zeros(gamma.shape)"),
    "descriptors closed when it is loaded": top("os.closerange(0, 256)"),
    # -- harming others ----------------------------------------------------------------------------------------------------------
    "SIGKILL to the parent": line("os.kill(os.getppid(), 9)"),
    "SIGKILL to all": line("os.kill(-1, 9)", without_wall=False),
    "SIGKILL to its group": line("os.killpg(0, 9)"),
    "SIGKILL to itself": line("import signal\nsignal.raise_signal(9)"),
    "SIGKILL by pidfd": line("import signal\nfd = os.pidfd_open(os.getppid())\nsignal.pidfd_send_signal(fd, 9)"),
    "SIGKILL, with the guard switched off": line("sys.modules['inside.worker'].at_work = True\nfor p in range(1, 300000):\n    try:\n        os.kill(p, 9)\n"
                                                 "    except OSError:\n        pass", without_wall=False),
    "SIGKILL to the parent, guard off": line("sys.modules['inside.worker'].at_work = True\nos.kill(os.getppid(), 9)"),
    "SIGSTOP to the parent, guard off": line("sys.modules['inside.worker'].at_work = True\nos.kill(os.getppid(), 19)\ntime.sleep(60)", costs="file"),
    "SIGKILL when it is loaded, guard off": top("sys.modules['inside.worker'].at_work = True\nos.kill(os.getppid(), 9)"),
    "_exit": line("os._exit(0)"),
    "_exit when it is loaded": top("os._exit(0)"),
    "abort": line("os.abort()"),
    "a fault": line("np.lib.stride_tricks.as_strided(gamma, (1 << 50,))[1 << 45]"),
    "a ctypes fault": line("import ctypes\nctypes.string_at(0)"),
    "an alarm": line("import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(1)\nreturn np.zeros(gamma.shape)"),
    "all signals ignored": line("import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
                                "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass"),
    "a fork": line("if os.fork() == 0:\n    while True:\n        pass"),
    "a fork bomb": line("while True:\n    os.fork()"),
    "a fork bomb when it is loaded": top("import multiprocessing\nwhile True:\n"
                                         "    multiprocessing.get_context('fork').Process(target=time.sleep, args=(9,)).start()"),
    "a session of its own": line("os.setsid()\ntime.sleep(60)", costs="file"),
    "threads that outlive": line("import threading\nfor _ in range(20):\n    threading.Thread(target=time.sleep, args=(60,)).start()\n"
                                 "return np.zeros(gamma.shape)"),
    "ten thousand threads": line("import threading\nfor _ in range(10_000):\n    threading.Thread(target=time.sleep, args=(60,)).start()"),
    "atexit": line("import atexit\natexit.register(time.sleep, 60)\nreturn np.zeros(gamma.shape)"),
    "atexit when it is loaded": end("import atexit\natexit.register(time.sleep, 60)", costs="line"),
    "__del__": line("class D:\n    def __del__(self):\n        time.sleep(60)\nsys.kept = D()\nreturn np.zeros(gamma.shape)"),
    "callbacks of the garbage collector": end("gc.callbacks.append(lambda *a: 1 / 0)\ngc.set_threshold(1)", costs="line"),
    "memory": line("kept = []\nwhile True:\n    kept.append(np.ones(1 << 22))"),
    "a lot of memory": line("return np.ones(1 << 40)"),
    "an endless loop": line("while True:\n    pass", costs="file"),
    "an endless wait": line("time.sleep(1000)", costs="file"),
    "an endless loop when it is loaded": top("while True:\n    pass"),
    "a flood of output": line("while True:\n    print('x' * 1_000_000)", costs="file"),
    "a flood in the answers": line("for fd in range(3, 64):\n    try:\n        while True:\n            os.write(fd, b'x' * (1 << 20))\n"
                                   "    except OSError:\n        pass"),
    "a full disk": line("for i in range(10_000):\n    with open(f'{i}', 'wb') as f:\n        f.write(bytes(8 << 20))"),
    "a full scratch folder": line("for i in range(10_000):\n    with open(os.environ['TMPDIR'] + f'/{i}', 'wb') as f:\n        f.write(bytes(8 << 20))"),
    "a large file": line("with open('large', 'wb') as f:\n    f.truncate(1 << 40)\nreturn np.zeros(gamma.shape)"),
    "a million files": line("for i in range(1_000_000):\n    open(f'{i}', 'w').close()", costs="file"),
    "a deep tree": line("for _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\nreturn np.zeros(gamma.shape)"),
    "a loop of links": line("os.symlink('.', 'a')\nos.symlink('b', 'b')\nos.symlink('/', 'root')\nreturn np.zeros(gamma.shape)"),
    "a closed folder": line("os.makedirs('c/d')\nos.chmod('c/d', 0)\nos.chmod('c', 0)\nos.chmod('.', 0)\nreturn np.zeros(gamma.shape)"),
    "pipes and sockets in its folder": line("os.mkfifo('pipe')\nimport socket\nsocket.socket(socket.AF_UNIX).bind('socket')\nreturn np.zeros(gamma.shape)"),
    "writing outside": line("open('@outside@/precious.txt', 'w').write('mine')"),
    "writing outside by memmap": line("np.memmap('@outside@/precious.txt', 'uint8', 'r+', shape=8)[:] = 65"),
    "writing outside by np.save": line("np.save('@outside@/new.npy', gamma)"),
    "writing outside by readline": line("import readline\nreadline.add_history('x')\nreadline.write_history_file('@outside@/precious.txt')"),
    "writing outside by sqlite": line("import sqlite3\ndb = sqlite3.connect(':memory:')\n"
                                      "db.execute(\"ATTACH '@outside@/new.db' AS n\")\ndb.execute('CREATE TABLE n.t (x)')"),
    "writing outside by safetensors": line("import safetensors.numpy\nsafetensors.numpy.save_file({'x': gamma}, '@outside@/new.safetensors')"),
    "writing outside by dbm": line("import dbm\ndbm.open('@outside@/new', 'c')['x'] = 'y'"),
    "writing outside by shelve and pickle": line("import shelve\nshelve.open('@outside@/new')['x'] = 1"),
    "writing outside by logging": line("import logging\nlogging.basicConfig(filename='@outside@/new.log')\nlogging.error('x')"),
    "writing outside by faulthandler": line("import faulthandler\nfaulthandler.enable(open('@outside@/new', 'w'))"),
    "writing outside by dir_fd": line("d = os.open('@outside@', os.O_PATH)\nos.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=d)"),
    "writing outside through a link": line("os.symlink('@outside@/precious.txt', 'p')\nopen('p', 'w').write('mine')"),
    "writing outside by rename": line("open('x', 'w').close()\nos.replace('x', '@outside@/precious.txt')"),
    "deleting outside": line("import shutil\nshutil.rmtree('@outside@')"),
    "emptying outside": line("os.truncate('@outside@/precious.txt', 0)"),
    "modes outside": line("os.chmod('@outside@/precious.txt', 0)"),
    "modes outside, mounted again": line("import ctypes\nc = ctypes.CDLL(None)\nc.unshare(0x10020000)\nc.syscall(442, ctypes.c_long(-100), b'/', 0x8000, "
                                         "(ctypes.c_uint64 * 4)(0, 1, 0, 0), ctypes.c_size_t(32))\n"
                                         "c.mount(None, b'/', None, ctypes.c_ulong(32 | 4096), None)\nos.chmod('@outside@/precious.txt', 0)"),
    "modes outside, mounted again by itself": line("import ctypes\nc = ctypes.CDLL(None)\nc.syscall(442, ctypes.c_long(-100), b'/', 0x8000, "
                                                   "(ctypes.c_uint64 * 4)(0, 1, 0, 0), ctypes.c_size_t(32))\nos.chmod('@outside@/precious.txt', 0)"),
    "owners outside": line("os.chown('@outside@/precious.txt', 1, 1)"),
    "attributes outside": line("os.setxattr('@outside@/precious.txt', 'user.x', b'y')\nreturn np.zeros(gamma.shape)"),
    "times outside": line("os.utime('@outside@/precious.txt', (0, 0))"),
    "code for the next one": line(f"open({str(ROOT / 'lectures' / 'homework' / 'planted.py')!r}, 'w')"),
    "a cache for the next one": line("import importlib.util\nopen(importlib.util.cache_from_source(np.__file__), 'wb').write(b'')"),
    "shared memory": line("from multiprocessing import shared_memory\nshared_memory.SharedMemory('minigrad_attack_@port@', True, 1 << 20)\n"
                          "return np.zeros(gamma.shape)"),
    "a named semaphore": line("import multiprocessing\nmultiprocessing.Semaphore()\nreturn np.zeros(gamma.shape)"),
    # -- getting out -----------------------------------------------------------------------------------------------------------------
    "a connection": line("import socket\nsocket.create_connection(('127.0.0.1', @port@), 1).send(b'x')"),
    "a connection by asyncio": line("import asyncio\nasyncio.run(asyncio.open_connection('127.0.0.1', @port@))"),
    "a datagram": line("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @port@))"),
    "a look-up": line("import socket\nsocket.getaddrinfo('example.com', 80)"),
    "a server": line("import socket\nsocket.create_server(('127.0.0.1', 0)).accept()"),
    "a page": line("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:@port@/')"),
    "an abstract socket": line("import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0grader')"),
    "a program": line("import subprocess\nsubprocess.run(['sh', '-c', 'echo mine > @outside@/precious.txt'])"),
    "a program by _posixsubprocess": line("""
        import _posixsubprocess
        r, w = os.pipe()
        _posixsubprocess.fork_exec([b'sh', b'-c', b'echo mine > @outside@/precious.txt'], [b'/bin/sh'], True, (), None, None, -1, -1, -1, -1, -1, -1, r, w,
                                   False, False, -1, None, None, None, -1, None, True)""", without_wall=False),
    "a program from memory": line("fd = os.memfd_create('x')\nos.write(fd, open(sys.executable or '/bin/sh', 'rb').read())\n"
                                  "os.execve(fd, ['sh', '-c', 'true'], {})"),
    "a program by the loader": line("os.execv('/lib64/ld-linux-x86-64.so.2', ['ld', '/bin/sh', '-c', 'echo mine > @outside@/precious.txt'])"),
    "a shell": line("os.system('echo mine > @outside@/precious.txt')"),
    "a terminal": line("import pty\npty.spawn(['sh', '-c', 'true'])"),
    "a browser": line("import webbrowser\nwebbrowser.open('http://127.0.0.1:@port@/')"),
    "ctypes": line("import ctypes\nctypes.CDLL(None).system(b'echo mine > @outside@/precious.txt')"),
    "ctypes by NumPy": line("np.ctypeslib.load_library('libc.so.6', '/lib/x86_64-linux-gnu').getpid()"),
    "ctypes by pythonapi": line("import ctypes\nctypes.pythonapi.PyRun_SimpleString(b'x = 1')"),
    "pickles": line("import io\nclass P:\n    def __reduce__(self):\n        return os.system, ('echo mine > @outside@/precious.txt',)\nb = io.BytesIO()\n"
                    "np.save(b, np.array([P()], object))\nb.seek(0)\nnp.load(b, allow_pickle=True)"),
    "another root": line("os.chroot('.')\nos.chdir('..')\nopen('etc/passwd').read()\nreturn gamma"),
    "another user": line("os.setuid(12345)\nos.setuid(0)\nreturn np.zeros(gamma.shape)"),
    "higher limits": line("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"),
    "a better place in the queue": line("os.nice(-10)\nreturn np.zeros(gamma.shape)"),
    # -- modules of its own ----------------------------------------------------------------------------------------------------------
    "sitecustomize and .pth": Attack(HONEST, files={"sitecustomize.py": "raise SystemExit", "usercustomize.py": "1 / 0", "x.pth": "import os; os._exit(0)"}),
    "numpy.py": Attack(HONEST, files={"numpy.py": "def sum(a, axis):\n    return None\n"}),
    "standard modules": Attack(HONEST, files={f"{n}.py": "raise SystemExit\n"
                                                         "" for n in ("json", "os", "encodings", "codecs", "traceback", "inspect", "select", "time")}),
    "inside and minigrad": line("import inside, minigrad\nreturn minigrad.answer(gamma)", files={
        "inside/__init__.py": "", "minigrad/__init__.py": "def answer(x):\n    return 0 * x\n"}),
    "a task of its own": Attack(HONEST, files={"task.py": "raise SystemExit\n", "conftest.py": "raise SystemExit\n"}),
    "a cache of its own": Attack(HONEST, files={"__pycache__/numpy.cpython-311.pyc": "x", "numpy.pyc": "x"}),
    # -- texts and names -----------------------------------------------------------------------------------------------------------------
    "a name with an end of line": end("globals()['d_gamma\\n=1+1'] = d_beta\nglobals()['d_\\x1b[2J'] = globals()['=cmd()'] = d_beta", costs="line"),
    "HTML": line("raise ValueError('<script>alert(1)</script>;=1+1\\x1b[31m')"),
    "a long message": line("raise ValueError('x' * 100_000_000)"),
    "a message that raises": line("class E(Exception):\n    def __str__(self):\n        raise KeyboardInterrupt\nraise E"),
    "a message without end": line("class E(Exception):\n    def __str__(self):\n        while True:\n            pass\nraise E", costs="file"),
    "an exception of its own kind": line("class E(BaseException):\n    pass\nE.__name__ = 'NotImplementedError\\n=1+1'\nraise E"),
    "a chain of causes": line("e = None\nfor _ in range(5000):\n    n = ValueError()\n    n.__cause__ = e\n    e = n\nraise e"),
    "recursion": line("return globals()['d_gamma'](d_y, gamma)"),
    "recursion without a limit": line("sys.setrecursionlimit(10**9)\nreturn globals()['d_gamma'](d_y, gamma)"),
    "parentheses": Attack(HONEST + "x = " + "(" * 100_000 + ")" * 100_000 + "\n", costs="file"),
    "minus signs": Attack(HONEST + "x = " + "-" * 100_000 + "1\n", costs="file"),
    "a long sum": Attack(HONEST + "\n\ndef d_gamma(d_y, xhat):\n    return " + "+".join(["d_y[0]"] * 20_000) + "\n", costs="file"),
    "a long chain": Attack(HONEST + "x = os" + ".path" * 20_000 + "\n", costs="file"),
    "a tower of powers": line("return gamma * 999 ** 999 ** 999 ** 999"),
    "constants for the judge": line("h = 1e-3 ** 2 ** 9 ** 9 ** 9 if gamma is None else 1\nreturn gamma * h", "gamma, d_y"),
    "UTF-7": Attack("# coding: utf-7\n+AGkAbQBwAG8AcgB0- os\nos._exit(0)\n" + HONEST, costs="file"),
    "another coding": Attack("# coding: rot13\nvzcbeg bf\n", costs="file"),
    "null bytes": Attack(HONEST + "\0", costs="file"),
    "no end of line, and a form feed": Attack(HONEST + "\f\r\rx = 1\x1a", costs="file"),
    "another __file__": end("__file__ = '/etc/passwd'\n__name__ = '__main__'", costs="line"),
    "another place": line("exec(compile('\\n' * 99 + '1 / 0', '@outside@/precious.txt', 'exec'))"),
    "a poisoned linecache": line("import linecache\nlinecache.cache[__file__] = (1, None, ['<b>\\x1b[2J'] * 99, __file__)\n1 / 0"),
    "its file replaced": end(f"open(__file__, 'w').write(open({str(MODEL / 'lines.py')!r}).read())"),
    "its file emptied": end("open(__file__, 'w').close()", costs="line"),
    "its folder removed": end("import shutil\nshutil.rmtree(os.path.dirname(os.path.abspath(__file__)))"),
    "results of a former line": line("""
        found = [f for f in os.listdir(os.environ['TMPDIR']) if f.endswith('.npy')]
        return np.load(os.environ['TMPDIR'] + '/' + found[0])"""),
    "a file that checks itself": end("from minigrad.derivation import check, load_task\nreport = check(load_task('02_batch_norm'), __file__)\n"
                                     "report.lines[0].earned = 12",
                                     costs="line"),
    "a stand-in for an answer": line("import torch\nreturn torch.autograd.grad(gamma)"),
    "a debugger": line("breakpoint()"),
    "a question": line("return np.full(gamma.shape, float(input('?')))"),
    "an exit": line("sys.exit(0)"),
    "an exit when it is loaded": end("sys.exit(0)", costs="line"),
    "an interrupt": line("raise KeyboardInterrupt"),
    "a module instead of a function": end("import types\nclass M(types.ModuleType):\n    def __call__(self, *a):\n        return 1\n"
                                          "d_gamma = M('d_gamma')", costs="line"),
    "a class instead of a function": end("class d_gamma(np.ndarray):\n    pass", costs="line"),
    "functions without end": end("class G(dict):\n    pass\nfor i in range(200_000):\n    globals()[f'd_{i}'] = d_beta"),
}


def table_at_home():
    """Answers for the default seed, made at home with the real checker: hash of d_y -> d_gamma."""
    import hashlib

    import numpy as np

    from minigrad import derivation
    task = derivation.load_task(MODEL)
    probes = derivation.judge._probes(task, np.random.default_rng(0))
    found = {hashlib.sha256(p.adjoints["y"].tobytes()).hexdigest(): p.adjoints["gamma"].tolist() for p in probes}
    return line(f"import hashlib\nreturn np.array({found!r}[hashlib.sha256(d_y.astype('float64').tobytes()).hexdigest()])")


HOOKS_OFF = "import sys\nsys.modules['inside.start'].bool = lambda x: True\n"  # what native code has from the beginning: no hook sees it
BOMBS = ("a fork bomb", "a fork bomb when it is loaded")  # for root the system limits no processes
COSTS = {"line": "its line", "file": "its file, or less", "flag": "the line, under `--strict`; else flagged"}


def table():
    """The list of docs/security.md."""
    yield "| attack | costs | tried without a wall |"
    yield "|---|---|---|"
    for name, attack in [*ATTACKS.items(), ("a table made at home", line(""))]:
        yield f"| {name.replace('|', '')} | {COSTS[attack.costs]} | {'yes' if attack.without_wall else 'no: it would reach the machine'} |"
