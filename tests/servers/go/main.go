// Go's net/http. Its runtime makes its own system calls: no library sees them.
package main

import (
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	// A look at names is what makes cgo's variant a dynamic program.
	_, _ = net.LookupHost("localhost")
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
