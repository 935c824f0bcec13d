"""A real link: a port of this host captures, and a second host, reached over ssh, sends."""
