import subprocess

from . import Program, crowd, free_port


def prepare(folder):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True, stdin=subprocess.DEVNULL)


def run(trial):
    port, configuration = free_port(), trial.folder / "sshd.conf"
    configuration.write_text(f"Port {port}\nListenAddress 127.0.0.1\nHostKey {trial.data}/key\nPidFile none\nUsePAM no\nMaxStartups 1000\n")
    trial.restrict(trial.serve(["/usr/sbin/sshd", "-D", "-f", configuration], port), more=12)
    return crowd(trial, port, 60, b"SSH-2.0-x\r\n", b"SSH-2.0-OpenSSH")


PROGRAM = Program("sshd", "a server with a process, and a pipe to it, for each client that logs in", ("/usr/sbin/sshd", "ssh-keygen"), 64, run, prepare=prepare, short=False)
