from . import Program, crowd, free_port

QUERY = bytes.fromhex("123401000001000000000000") + b"\1a\4test\0" + bytes.fromhex("00010001")


def run(trial):
    port, configuration = free_port(), trial.folder / "unbound.conf"
    configuration.write_text(
        f'server:\n  interface: 127.0.0.1\n  port: {port}\n  username: ""\n  chroot: ""\n  pidfile: ""\n  directory: "{trial.folder}"\n  use-syslog: no\n'
        "  num-threads: 1\n  outgoing-range: 16\n  num-queries-per-thread: 8\n  incoming-num-tcp: 300\n  outgoing-num-tcp: 2\n  module-config: iterator\n"
        '  tcp-idle-timeout: 3000\n  local-zone: "test." static\n  local-data: "a.test. A 127.0.0.1"\nremote-control:\n  control-enable: no\n'
    )
    # At its start it wants as many descriptors as clients may come.
    trial.restrict(trial.serve(["unbound", "-d", "-c", configuration], port, limits=(1024, 20000)), more=30)
    return crowd(trial, port, 200, len(QUERY).to_bytes(2, "big") + QUERY, bytes([127, 0, 0, 1]))


PROGRAM = Program("unbound", "a DNS server that listens no more for TCP for two seconds at its limit", ("unbound",), 64, run, short=False)
