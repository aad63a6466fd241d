from . import Program

# A port that is out of reach is closed by the garbage collector, which knows nothing of descriptors.
SCRIPT = """
(define opened 0)
(define without 0)
(do ((i 0 (+ i 1))) ((= i 1000))
  (catch 'system-error
    (lambda () (read-char (open-input-file (cadr (command-line)))) (set! opened (+ opened 1)))
    (lambda args (set! without (+ without 1)))))
(display opened) (display " ") (display without)
"""


def run(trial):
    (trial.folder / "leaks.scm").write_text(SCRIPT)
    trial.command(["guile", "--no-auto-compile", "-s", trial.folder / "leaks.scm", "/etc/passwd"], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), int(said[1])) if said else (0, 1000)


PROGRAM = Program("Guile", "leaves its files to the garbage collector", ("guile",), 64, run, short=False)
