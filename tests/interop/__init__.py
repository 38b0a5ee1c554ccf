"""Real peers judge trio_mq: libzmq (pyzmq) and pyomq in other processes, and plain sockets that speak bytes."""
