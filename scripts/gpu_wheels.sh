#!/bin/sh
# Collect in a folder the wheels that benchmarks/gpu.py and `train` need on a machine without network that has
# JAX, PyTorch, OpenCV and matplotlib: Keras, what the commands need, and what these depend on.
#
#     scripts/gpu_wheels.sh FOLDER [PYTHON_VERSION]
#
# PYTHON_VERSION is that machine's, by default 3.12. There, install them with
#
#     python3 -m pip install --no-deps FOLDER/*.whl
set -eu
folder=${1:?expected a folder for the wheels}
version=${2:-3.12}
requirements=$(sed -n 's/^    "\(\(keras\|cyclopts\|tqdm\)[>=][^"]*\)".*/\1/p' pyproject.toml)
platforms=$(for glibc in 28 27 26 24 17 12 5; do printf ' --platform manylinux_2_%s_x86_64' "$glibc"; done)
# shellcheck disable=SC2086  # each word is an argument
python3 -m pip download --quiet --only-binary :all: --implementation cp --python-version "$version" \
    $platforms --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --dest "$folder" $requirements
rm -f "$folder"/numpy-*.whl "$folder"/ml_dtypes-*.whl  # JAX has brought its own
du -sh "$folder"
