package main

import (
	"os"
	"path/filepath"
	"testing"

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
	unlock, err := d.prepare()
	if err != nil {
		t.Fatal(err)
	}
	unlock()
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

// TestFolderInUse shows that two clusters never share a folder.
func TestFolderInUse(t *testing.T) {
	d := newTestDev(t)
	unlock, err := d.prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if second, err := d.prepare(); err == nil {
		second()
		t.Error("a folder was taken twice")
	}
}
