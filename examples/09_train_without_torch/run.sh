#!/bin/sh
# Exports a training step to ./spiral, proves it, and trains with it: run.sh [PYTHON]
set -eu
here=$(dirname "$0")
"${1:-python}" "$here/export.py" spiral
cp "$here/main.c" spiral/train.c
make -C spiral test train
./spiral/train
