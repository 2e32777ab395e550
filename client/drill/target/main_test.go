package target

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is also what the processes of the tests run: with a node's command line it is a node that does nothing but write
// its process ID and end when it is asked to.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args[1:], "node") {
		pretend()
		return
	}
	goleak.VerifyTestMain(m)
}

func pretend() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	folder, _ := flagOf(os.Args, "--data-dir")
	file := filepath.Join(folder, "pid")
	if err := os.WriteFile(file+".new", []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Rename(file+".new", file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {
	case <-asked:
	case <-time.After(time.Minute): // whatever becomes of the test
	}
}
