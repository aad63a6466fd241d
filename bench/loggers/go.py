from . import Logger, fed, made

SOURCE = """package main

import (
	"bufio"
	"log"
	"os"
	"strings"
)

func main() {
	file, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0644)
	if err != nil {
		log.Fatal(err)
	}
	log.SetOutput(file)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), ":") {
			os.WriteFile(lines.Text()[1:], nil, 0644)
		} else {
			log.Print(lines.Text())
		}
	}
}
"""


def compiled(folder):
    (folder / "logs.go").write_text(SOURCE)
    made("env", "CGO_ENABLED=0", "GOCACHE=FOLDER/cache", "GO111MODULE=off", "go", "build", "-o", "FOLDER/logs", "FOLDER/logs.go")(folder)


LOGGERS = [Logger("Go, log", "log.Print", ("go",), lambda o: fed(o, [o.data / "logs", o.log]), compiled,
                  left_alone="Go makes its system calls itself: tideover guard --swap is for that")]
