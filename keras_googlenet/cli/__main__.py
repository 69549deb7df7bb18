"""`python -m keras_googlenet.cli`."""

from keras_googlenet.cli import main

main()
