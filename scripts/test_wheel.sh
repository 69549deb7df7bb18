#!/usr/bin/env bash
# Builds the wheel, installs it outside the tree, and tests it there without the package's source.
#   scripts/test_wheel.sh lowest-direct|highest [PYTEST ARGUMENT...]
# Needs `uv`, and `build` for $PYTHON. WHEEL names a wheel to test instead of building one;
# EXTRAS and PYTHON_VERSION set the extras and the Python to install.
set -euo pipefail
cd "$(dirname "$0")/.."
resolution=${1:?pass lowest-direct or highest}
shift
python=${PYTHON:-python3}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
wheel=${WHEEL:+$(realpath "$WHEEL")}
if [ -z "$wheel" ]; then
  "$python" -m build --wheel --outdir "$folder/dist"
  wheel=$(echo "$folder"/dist/*.whl)
fi
uv venv --quiet --python "${PYTHON_VERSION:-3.11}" "$folder/venv"
# By pyproject.toml, whose dependencies count as direct: a wheel's do not, and would be the newest ones.
extras=${EXTRAS:-serving,jax,dev}
# shellcheck disable=SC2086
uv pip install --quiet --python "$folder/venv/bin/python" --resolution "$resolution" \
  -r pyproject.toml --extra ${extras//,/ --extra } "keras-googlenet @ file://$wheel"
uv pip list --python "$folder/venv/bin/python"

# The tests, and the examples, scripts and documents that they read, without the package.
git archive HEAD | tar -x -C "$folder" --one-top-level=tree --exclude=keras_googlenet --exclude=.github
cd "$folder/tree"
"$folder/venv/bin/python" -c '
import sys, keras_googlenet
assert keras_googlenet.__file__.startswith(sys.argv[1]), keras_googlenet.__file__' "$folder/venv"
if [ $# -eq 0 ]; then set -- -n 2 --dist loadfile tests/*/; fi
"$folder/venv/bin/python" -m pytest "$@"
