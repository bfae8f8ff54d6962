#!/bin/sh
# Exports a training step to ./circle, proves it, and trains with it: run.sh [PYTHON]
set -eu
here=$(dirname "$0")
"${1:-python}" "$here/export.py" circle
cp "$here/main.c" circle/train.c
make -C circle test train
./circle/train
