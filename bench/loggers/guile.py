from . import Logger, fed

SCRIPT = """(use-modules (ice-9 rdelim))
(define log (open-file (cadr (command-line)) "a"))
(let loop ((line (read-line)))
  (unless (eof-object? line)
    (if (string-prefix? ":" line)
        (close-port (open-output-file (substring line 1)))
        (catch 'system-error
          (lambda () (display line log) (newline log) (force-output log))
          (lambda _ (format (current-error-port) "~a~%" _))))
    (loop (read-line))))
"""


def prepare(folder):
    (folder / "script.scm").write_text(SCRIPT)


LOGGERS = [Logger("Guile, display", "a port that is flushed for each line", ("guile",),
                  lambda o: fed(o, ["guile", "--no-auto-compile", o.data / "script.scm", o.log]), prepare)]
