"""Where channels lie: NHWC inside, other orders where somebody needs them, and the transposes between."""
