//go:build linux

package test

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestDemsctl runs the scripts under testdata/script against one cluster. Each uses events and customers of its own.
func TestDemsctl(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(environment *testscript.Env) error {
			environment.Setenv("PATH", programs+string(os.PathListSeparator)+os.Getenv("PATH"))
			environment.Setenv("HOME", environment.WorkDir)
			environment.Setenv("DEMS_ENDPOINTS", c.url)
			environment.Setenv("DEMS_LOG_DIR", environment.WorkDir+"/logs")
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		RequireExplicitExec: true,
	})
}

// exits runs a program that has to end with a given status: exits STATUS PROGRAM [ARGUMENT ...]. Standard output and
// standard error can be examined as after exec.
func exits(script *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 2 {
		script.Fatalf("usage: exits STATUS PROGRAM [ARGUMENT ...]")
	}
	want, err := strconv.Atoi(args[0])
	script.Check(err)
	status := 0
	if err := script.Exec(args[1], args[2:]...); err != nil {
		failed, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			script.Fatalf("%v", err)
		}
		status = failed.ExitCode()
	}
	if status != want {
		script.Fatalf("exit status %d, want %d", status, want)
	}
}
