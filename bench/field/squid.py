from . import Program, crowd, free_port, server_behind


def run(trial):
    """Behind it a server in this process, which has descriptors enough."""
    port, at = free_port(), trial.folder
    configuration = at / "squid.conf"
    configuration.write_text(
        f"http_port 127.0.0.1:{port}\nhttp_access allow all\naccess_log none\ncache_log {at}/cache.log\npid_filename {at}/pid\n"
        f"cache deny all\nnetdb_filename none\nicon_directory {at}\nmime_table /dev/null\n"
        f"coredump_dir {at}\nshutdown_lifetime 0 seconds\ncache_mem 1 MB\npinger_enable off\nvisible_hostname localhost\n"
    )
    with server_behind() as ask:
        trial.serve(["squid", "-N", "-n", f"field{port}", "-f", configuration], port)
        return crowd(trial, port, 150, ask, b"behind", quiet=4)  # it pauses for a second or two


PROGRAM = Program("squid", "a proxy that keeps descriptors back, and lets clients wait", ("squid",), 128, run, short=False)
