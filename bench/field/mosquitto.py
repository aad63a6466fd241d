from . import Program, crowd, free_port

CONNECT = bytes.fromhex("100c00044d5154540402003c0000")
ACCEPTED = bytes.fromhex("20020000")


def run(trial):
    port, configuration = free_port(), trial.folder / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest none\npersistence false\n")
    trial.serve(["mosquitto", "-c", configuration], port)
    return crowd(trial, port, 200, CONNECT, ACCEPTED)


PROGRAM = Program("mosquitto", "an MQTT broker that keeps one descriptor to refuse clients with", ("mosquitto",), 64, run, short=False)
