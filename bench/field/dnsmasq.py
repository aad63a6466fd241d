from . import Program, crowd, free_port

QUERY = bytes.fromhex("123401000001000000000000") + b"\1a\4test\0" + bytes.fromhex("00010001")


def run(trial):
    port = free_port()
    words = ["dnsmasq", "-k", "-C", "/dev/null", "-p", port, "-a", "127.0.0.1", "-z", "-h", "-R", "-A", "/#/127.0.0.1", "-x", trial.folder / "pid"]
    process = trial.serve([*words, "-u", "root", "-g", "root"], port)
    trial.restrict(process, more=8)
    return crowd(trial, port, 60, len(QUERY).to_bytes(2, "big") + QUERY, bytes([127, 0, 0, 1]))


PROGRAM = Program("dnsmasq", "a DNS server that ends when it has no pipe for the process of a TCP client", ("dnsmasq",), 24, run, short=False)
