package target

import (
	"context"
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

// TestMain is also what the processes of the tests run: with the command line of a node or a front end it does nothing but write
// its process ID and end when it is asked to.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args[1:], "node") || slices.Contains(os.Args[1:], "frontend") {
		pretend()
		return
	}
	goleak.VerifyTestMain(m)
}

func pretend() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	folder, isNode := flagOf(os.Args, "--data-dir")
	if !isNode {
		folder, _ = flagOf(os.Args, "--pid-dir")
	}
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

// patience is how long a test waits for what has to happen.
const patience = 10 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
