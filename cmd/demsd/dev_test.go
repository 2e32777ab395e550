package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"dems"
	"dems/transport"
)

func newTestDev(t *testing.T) *dev {
	t.Helper()
	d := &dev{flags: devFlags{
		listen: "127.0.0.1:0", dataDir: t.TempDir(), nodes: 3, reply: "majority", cities: dems.DefaultCities().String(),
	}}
	if err := d.check(); err != nil {
		t.Fatal(err)
	}
	return d
}

func prepare(t *testing.T, d *dev) {
	t.Helper()
	lock, err := d.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	for role, id := range map[transport.Role]string{transport.RoleNode: "n3", transport.RoleFrontEnd: devFrontEndID} {
		if _, err := transport.LoadCredentials(d.pkiDir(), role, id); err != nil {
			t.Error(err)
		}
	}
}

// TestKilledFirstStart shows that whatever a start leaves that is killed while it prepares the folder, the next succeeds.
func TestKilledFirstStart(t *testing.T) {
	for name, leave := range map[string]func(d *dev) error{
		"half of the marker": func(d *dev) error {
			return os.WriteFile(filepath.Join(d.flags.dataDir, "dev.json.new"), []byte(`{"ver`), 0o644)
		},
		"the authority's key alone": func(d *dev) error {
			if err := os.Mkdir(d.pkiDir()+".new", 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d.pkiDir()+".new", "ca.key"), nil, 0o600)
		},
		"a node's key alone": func(d *dev) error {
			if err := transport.CreateAuthority(d.pkiDir() + ".new"); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d.pkiDir()+".new", "n2.key"), []byte("x"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTestDev(t)
			if err := leave(d); err != nil {
				t.Fatal(err)
			}
			prepare(t, d)
		})
	}
}

// TestSecondStartKeepsCertificates shows that a folder keeps its authority, and gets back a certificate that was removed.
func TestSecondStartKeepsCertificates(t *testing.T) {
	d := newTestDev(t)
	prepare(t, d)
	authority := filepath.Join(d.pkiDir(), "ca.crt")
	before, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"n3.crt", "n3.key"} {
		if err := os.Remove(filepath.Join(d.pkiDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	prepare(t, d)
	if after, err := os.ReadFile(authority); err != nil || string(after) != string(before) {
		t.Errorf("the authority changed: %v", err)
	}
}

// TestFolderInUse shows that two clusters never share a folder, and that a folder is free as soon as nobody holds it.
func TestFolderInUse(t *testing.T) {
	d := newTestDev(t)
	lock, err := d.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFolder(t.Context(), d.flags.dataDir); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("a folder was taken twice: %v", err)
	}
	taken := make(chan error)
	go func() {
		second, err := lockFolder(t.Context(), d.flags.dataDir)
		if err == nil {
			err = second.Close()
		}
		taken <- err
	}()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Error(err)
	}
}

// TestFolderIsTakenWhileAChildHoldsIt shows that a folder stays taken while a process that inherited its lock lives, and
// that the next start waits for the end of it.
func TestFolderIsTakenWhileAChildHoldsIt(t *testing.T) {
	d := newTestDev(t)
	lock, err := d.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("cat") // ends with its input
	child.ExtraFiles = []*os.File{lock}
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(child.Start(), lock.Close()); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockFolder(ended, d.flags.dataDir); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("taken while a child holds it: %v", err)
	}
	if err := errors.Join(input.Close(), child.Wait()); err != nil {
		t.Fatal(err)
	}
	prepare(t, d)
}

// TestPortInUse shows that a port that stays in use is an error, and one that becomes free is not.
func TestPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := freeAddress(ended, address); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%s is in use: %v", address, err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := freeAddress(t.Context(), address); err != nil || got != address {
		t.Errorf("%s is free: %s %v", address, got, err)
	}
}

// TestDrillsAreForDevelopment: a development cluster is started for drills, and nothing else is unless it is said.
func TestDrillsAreForDevelopment(t *testing.T) {
	d := newTestDev(t)
	for _, p := range []process{d.nodeProcess(0, []string{"127.0.0.1:1"}), d.frontEndProcess("127.0.0.1:2", []string{"127.0.0.1:1"})} {
		if !slices.Contains(p.args, "--enable-faults") {
			t.Errorf("%s is not started for drills: %v", p.name, p.args)
		}
	}
	for _, command := range []*cobra.Command{newNodeCommand(), newFrontEndCommand()} {
		if flag := command.Flags().Lookup("enable-faults"); flag == nil || flag.DefValue != "false" {
			t.Errorf("%s: --enable-faults is %+v", command.Name(), flag)
		}
	}
}
