"""Tornado 4, which Gemstone's services need, is older than Python 3.10, which took this name away."""

import collections
import collections.abc

collections.MutableMapping = collections.abc.MutableMapping
