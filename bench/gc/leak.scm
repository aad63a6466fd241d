;; leak.scm LIVE OPENS
(use-modules (ice-9 rdelim))
(define live (iota (string->number (cadr (command-line)))))
(do ((i (string->number (caddr (command-line))) (- i 1))) ((= i 0)) (read-char (open-input-file "/etc/hostname")))
(display "done") (newline) (force-output)
(read-line)
