"""The table of a compiled network as its loops read it: kinds of rows, kinds of windows, columns."""

LINEAR, CONV, DEPTHWISE, POOL, ADD, ATTENTION, TURN, MEAN_TOKENS, AFFINE, LOAD, STORE, OVER_TIME = range(12)
NEURON = 16  # from here on: the neurons of a network, functions called by their addresses
MAX, MEAN, MEAN_INSIDE, SUM = range(4)  # of a window; MEAN_INSIDE leaves padding out of the count

# Columns of the table. Places are elements of one step; a buffer begins at its place times the steps it has room for.
KIND, OUT, IN, IN_2, IN_3, SIZE, STRIDE, WEIGHT, BIAS, STATE, FIRST = range(11)  # SIZE of a step of the output, STRIDE of the input
COLUMNS = 28
