//go:build linux

package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dems/internal/conformance"
)

// expectRefusal checks that a program ended by itself, said all of that on standard error in a few lines, and nothing on
// standard output.
func expectRefusal(t *testing.T, got outcome, status int, said ...string) {
	t.Helper()
	if got.status != status || got.stdout != "" || strings.Contains(got.stderr, "goroutine ") {
		t.Errorf("want exit status %d, a message and nothing else; %v", status, got)
	}
	for _, text := range said {
		if !strings.Contains(got.stderr, text) {
			t.Errorf("standard error does not say %q; %v", text, got)
		}
	}
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	node := []string{"node", "--id", "n1", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--peers", "n1=127.0.0.1:1"}
	for _, test := range []struct {
		args []string
		said string
	}{
		{[]string{"fly"}, "fly"},
		{[]string{"dev", "--no-such-flag"}, "no-such-flag"},
		{[]string{"dev", "argument"}, "argument"},
		{[]string{"dev", "--nodes", "0"}, "--nodes"},
		{[]string{"dev", "--cities", "Toronto"}, "TOR=Toronto"},
		{[]string{"dev", "--listen", "0.0.0.0:0", "--data-dir", t.TempDir()}, "demsd frontend with --insecure"},
		{[]string{"node"}, "required"},
		{append(node, "--id", "N1"), "--id"},
		{append(node, "--peers", "n2=127.0.0.1:1"), "n1"},
		{append(node, "--peers", "n1=127.0.0.1"), "HOST:PORT"},
		{[]string{"frontend"}, "--nodes"},
		{[]string{"frontend", "--nodes", "127.0.0.1:1", "--reply", "any"}, "--reply"},
		{[]string{"frontend", "--nodes", "127.0.0.1:1", "--listen", "0.0.0.0:8080"}, "--insecure"},
		{[]string{"frontend", "--nodes", "127.0.0.1:1", "--listen", "[::]:8080"}, "--insecure"},
		{[]string{"frontend", "--nodes", "127.0.0.1:1", "--listen", ":8080"}, "--insecure"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			expectRefusal(t, runProgram(t, demsd(), test.args...), 2, test.said)
		})
	}
}

// TestInsecure shows that --insecure lets a front end listen anywhere: it gets as far as its missing certificate.
func TestInsecure(t *testing.T) {
	t.Parallel()
	got := runProgram(t, demsd(), "frontend", "--nodes", "127.0.0.1:1", "--listen", "0.0.0.0:0", "--insecure", "--pki-dir", t.TempDir())
	expectRefusal(t, got, 1, "demsd pki")
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for _, program := range []string{demsd(), demsctl()} {
		for _, args := range [][]string{{"--help"}, {"version"}, {"version", "--help"}} {
			if got := runProgram(t, program, args...); got.status != 0 || got.stdout == "" || got.stderr != "" {
				t.Errorf("%s %s: %v", filepath.Base(program), args, got)
			}
		}
	}
}

func TestMissingCertificates(t *testing.T) {
	t.Parallel()
	got := runProgram(t, demsd(), "node", "--id", "n1", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0",
		"--peers", "n1=127.0.0.1:1", "--pki-dir", t.TempDir())
	expectRefusal(t, got, 1, "demsd pki")
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := runProgram(t, demsd(), "dev", "--data-dir", t.TempDir(), "--listen", listener.Addr().String())
	expectRefusal(t, got, 1, listener.Addr().String(), "in use")
}

func TestDataFolderIsAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{file, filepath.Join(file, "below")} {
		expectRefusal(t, runProgram(t, demsd(), "dev", "--data-dir", folder, "--listen", "127.0.0.1:0"), 1, file)
	}
}

// TestDataFolderNotWritable runs as another user where the tests run as root, whom no permission stops.
func TestDataFolderNotWritable(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "dems-not-writable-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	if err := os.Chmod(folder, 0o555); err != nil {
		t.Fatal(err)
	}
	got := runCommand(t, func(ctx context.Context) *exec.Cmd {
		command := exec.CommandContext(ctx, demsd(), "dev", "--data-dir", folder, "--listen", "127.0.0.1:0")
		if os.Geteuid() == 0 {
			const nobody = 65534
			command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		return command
	})
	expectRefusal(t, got, 1, folder, "permission denied")
}

func TestDataFolderInUse(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	got := runProgram(t, demsd(), "dev", "--data-dir", c.dataDir, "--listen", "127.0.0.1:0")
	expectRefusal(t, got, 1, c.dataDir, "in use")
	c.waitEqual(10 * time.Second) // the first one is not disturbed
}

// TestDamage starts clusters on folders of which a file is damaged: each says which, and serves nothing.
func TestDamage(t *testing.T) {
	c := startDev(t, t.TempDir(), "DEMSD_SNAPSHOT_INTERVAL=200ms", "DEMSD_SNAPSHOT_THRESHOLD=50")
	l := newLoad(c)
	l.start(t)
	eventually(t, 30*time.Second, "a snapshot on n1", func() error {
		if len(snapshots(c.dataDir, "n1")) == 0 {
			return fmt.Errorf("none after %d requests", l.done.Load())
		}
		return nil
	})
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	if err := c.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		what   string
		file   string
		damage func([]byte) []byte
		said   string
	}{
		{"raft log overwritten", "n1/raft.db", func(data []byte) []byte { copy(data, make([]byte, 16<<10)); return data }, "raft.db"},
		{"raft log cut", "n2/raft.db", func(data []byte) []byte { return data[:len(data)/3] }, "raft.db"},
		{"raft log empty", "n3/raft.db", func([]byte) []byte { return nil }, "raft.db"},
		{"marker damaged", "n1/node.json", func([]byte) []byte { return []byte("{") }, "node.json"},
		{"snapshot flipped", snapshots(c.dataDir, "n1")[0] + "/state.bin", flipMiddle, "snapshot"},
		{"snapshot cut", snapshots(c.dataDir, "n1")[0] + "/state.bin", func(data []byte) []byte { return data[:len(data)/2] }, "snapshot"},
		{"cluster marker damaged", "dev.json", func([]byte) []byte { return []byte("{") }, "dev.json"},
	} {
		t.Run(test.what, func(t *testing.T) {
			defer damage(t, filepath.Join(c.dataDir, test.file), test.damage)()
			got := runProgram(t, demsd(), "dev", "--data-dir", c.dataDir, "--listen", "127.0.0.1:0")
			expectRefusal(t, got, 1, test.said)
			c.expectNothingRuns()
		})
	}
	again := startDev(t, c.dataDir) // with every file as it was
	l.use(again)
	l.verify(t)
}

// snapshots returns the folders of a node's finished snapshots, below the data folder, newest first.
func snapshots(dataDir, node string) []string {
	found, err := filepath.Glob(filepath.Join(dataDir, node, "snapshots", "*", "state.bin"))
	if err != nil {
		return nil
	}
	var folders []string
	for _, file := range found {
		folder := filepath.Dir(file)
		if filepath.Ext(folder) != ".tmp" {
			folders = append([]string{filepath.Join(node, "snapshots", filepath.Base(folder))}, folders...)
		}
	}
	return folders
}

func flipMiddle(data []byte) []byte {
	data[len(data)/2] ^= 1
	return data
}

// damage changes a file and returns what restores it.
func damage(t *testing.T, file string, change func([]byte) []byte) (restore func()) {
	t.Helper()
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(append([]byte(nil), original...)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(file, original, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// TestFolderOfAnotherNode starts a node with the folder of another one.
func TestFolderOfAnotherNode(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": "TORM100519", "eventType": "seminar", "capacity": 2})
	if err := c.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	got := runProgram(t, demsd(), "node", "--id", "n2", "--data-dir", filepath.Join(c.dataDir, "n1"), "--listen", "127.0.0.1:0",
		"--peers", "n1=127.0.0.1:1,n2=127.0.0.1:2,n3=127.0.0.1:3", "--pki-dir", filepath.Join(c.dataDir, "pki"))
	expectRefusal(t, got, 1, "n1", "n2")
}
