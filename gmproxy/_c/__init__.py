"""The compiled build of the hot modules (see gmproxy.accel) and the types they are compiled with."""
