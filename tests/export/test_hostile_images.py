"""What hostile images cost a server: memory and seconds, with TensorFlow's own loader."""

import io
import json
import struct
import zlib

import pytest
from conftest import run_python
from PIL import Image

from keras_googlenet.images.spec import SERVED_PIXELS

pytestmark = pytest.mark.ci  # minutes of decoding

SIDE = 4000
SECONDS = 20  # for what takes 2 s where the processor is idle
DECODED = 3 * SERVED_PIXELS / 2**20  # MiB of the largest image
BYTES_OF_A_PIXEL = 11  # in memory at a time, at most, as the README says

# Loads a version, runs a request of the files on so many threads, or on one a request of each, and tells what
# it took.
SERVER = """
import json, os, sys, threading, time
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import resource
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # not this machine's, where it goes wrong
import functools
import numpy as np, tensorflow as tf
from pathlib import Path
from keras_googlenet.session import SavedModelSession

four = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
tf.compat.v1.Session = functools.partial(tf.compat.v1.Session, config=four)
folder, threads, *files = sys.argv[1:]
session = SavedModelSession(Path(folder))
small = [encode(np.zeros((8, 8, 3), "uint8")).numpy() for encode in (tf.io.encode_png, tf.io.encode_jpeg)]
session.run("serving_default", {"images": np.array(small, object)})
images = np.array([Path(file).read_bytes() for file in files], object)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

answers = []
def ask(images):
    try:
        answers.append(len(session.run("serving_default", {"images": images})["scores"]))
    except tf.errors.InvalidArgumentError as error:
        answers.append(error.message)

before, start = peak(), time.monotonic()
if threads == "each":
    for index in range(len(images)):
        ask(images[index : index + 1])
else:
    clients = [threading.Thread(target=ask, args=(images,)) for _ in range(int(threads))]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
print(json.dumps({"answers": answers, "mib": peak() - before, "seconds": time.monotonic() - start}))
"""


def cost(version, files, threads=1):
    """What requests take, one of these images on each thread: answers, `mib` and `seconds`.

    With "each" for `threads`, a request of each image takes its turn.
    """
    output = run_python(SERVER, str(version), str(threads), *map(str, files))
    return json.loads(output.splitlines()[-1])


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black_png(width, height, before=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packing, row = zlib.compressobj(1), bytes(1 + 3 * width)
    packed = b"".join(packing.compress(row) for _ in range(height)) + packing.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + before
        + b"".join([chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b"")])
    )


def saved(kind, image, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind):
    """300 frames that differ, 77 MiB decoded."""
    frames = [Image.new("RGB", (300, 300), (number % 256, number // 2, 9)) for number in range(300)]
    return saved(kind, frames[0], save_all=True, append_images=frames[1:], lossless=True)


def jpeg_of_scans(side, scans):
    """A progressive JPEG of one color whose last scan is repeated."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "gray").save(buffer, "jpeg", progressive=True, subsampling=0)
    whole = buffer.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (scans - whole.count(b"\xff\xda\0")) + b"\xff\xd9"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A function that writes an image once."""
    folder, made = tmp_path_factory.mktemp("hostile"), {}

    def write(name, make):
        if name not in made:
            made[name] = folder / name
            made[name].write_bytes(make())
        return made[name]

    return write


REFUSED = {
    # It became 144 million pixels and 474 MiB.
    "fcTL.png": (
        lambda: black_png(12_000, 12_000, chunk(b"fcTL", struct.pack(">II", 8, 8) + bytes(18))),
        "first chunk is IHDR",
    ),
    # 2,986 bytes took 5 GiB and half a minute: resized by its height first.
    "long.png": (lambda: black_png(1_000_000, 1), "at most 65535 a side"),
    "large.png": (lambda: black_png(SIDE + 1, SIDE), f"Expected an image of 1 to {SERVED_PIXELS} pixels"),
    "scans.jpg": (lambda: jpeg_of_scans(1000, 20_000), "at most 50 JPEG scans"),
    # TensorFlow writes past its memory given such a WebP, and decodes all frames of a GIF.
    "animated.webp": (lambda: animated("WEBP"), "Expected a WebP image that is not animated"),
    "animated.gif": (lambda: animated("GIF"), "Expected the bytes of"),
    "small.webp": (  # of less than 20 kB
        lambda: saved("WEBP", Image.new("RGB", (SIDE + 1, SIDE)), lossless=True),
        f"Expected an image of 1 to {SERVED_PIXELS} pixels",
    ),
}


def test_what_is_refused_costs_little(exported, file):
    """One after another, so that the last one's memory would show as well as the first's."""
    files = [file(name, make) for name, (make, _) in REFUSED.items()]
    found = cost(exported, files, threads="each")
    for answer, (_, message) in zip(found["answers"], REFUSED.values(), strict=True):
        assert message in answer
    assert found["mib"] < 50
    assert found["seconds"] < SECONDS / 4


@pytest.mark.parametrize("count", [1, 8])
def test_images_of_a_batch_take_the_memory_of_one(exported, file, count):
    """All at once, each has its 46 MiB; none is refused for the others."""
    largest = file("largest.png", lambda: black_png(SIDE, SIDE))
    found = cost(exported, [largest] * count)
    assert found["answers"] == [count]
    assert found["mib"] < 2.2 * DECODED  # of the last, freed while the next is decoded


def test_four_batches_at_a_time_stay_below_a_gibibyte(exported, file):
    """The manifest's `num_batch_threads`; a progressive JPEG takes the most memory for a pixel."""
    largest = file("largest.jpg", lambda: jpeg_of_scans(SIDE, 20))
    found = cost(exported, [largest] * 2, threads=4)
    assert found["answers"] == [2] * 4
    assert found["mib"] < 1024


@pytest.mark.parametrize(("side", "scans"), [(SIDE, 20), (2500, 50)])
def test_the_slowest_jpeg_is_decoded_in_time(exported, file, side, scans):
    found = cost(exported, [file(f"slow{scans}.jpg", lambda: jpeg_of_scans(side, scans))])
    assert found["answers"] == [1]
    assert found["seconds"] < SECONDS


TRANSPARENT = {
    "PNG": {"compress_level": 1},
    "WEBP": {"lossless": True, "quality": 0, "method": 0},
    "BMP": {},
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_and_other_formats_take_little_memory(exported, file, kind):
    """Composed a part at a time. The files themselves are in memory twice."""
    picture = Image.new("RGBA", (SIDE, SIDE), (200, 100, 50, 99))
    written = file(f"transparent.{kind}", lambda: saved(kind, picture, **TRANSPARENT[kind]))
    found = cost(exported, [written] * 3)
    assert found["answers"] == [3]
    assert found["mib"] < (BYTES_OF_A_PIXEL * SERVED_PIXELS + 6 * written.stat().st_size) / 2**20
