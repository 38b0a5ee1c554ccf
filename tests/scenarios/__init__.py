"""The scenarios that libzmq checks about itself, told as behaviours of trio_mq's sockets.

Each runs over every transport that fits; `kit.over` says which, under which clock and under which deadline.
"""
