import signal

from . import Program, crowd, free_port

BIND = bytes.fromhex("300c020101600702010304008000")
DONE = bytes.fromhex("02010161070a0100")  # message 1, bind response, success


def configuration(folder):
    return (
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
        f"pidfile {folder}/pid\ndatabase mdb\nsuffix dc=x\ndirectory {folder}/db\n"
    )


def run(trial):
    written = trial.folder / "slapd.conf"
    (trial.folder / "db").mkdir()
    written.write_text(configuration(trial.folder))
    port = free_port()
    trial.serve(["slapd", "-d", "0", "-f", written, "-h", f"ldap://127.0.0.1:{port}"], port, end=signal.SIGKILL)
    return crowd(trial, port, 1300, BIND, DONE, stay=True)


PROGRAM = Program("slapd", "an LDAP server with a table as long as the limit said, and more clients", ("slapd",), 1024, run)
