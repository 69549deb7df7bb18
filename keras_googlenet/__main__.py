"""`python -m keras_googlenet`: the command line."""

from keras_googlenet.cli import main

if __name__ == "__main__":
    main()
