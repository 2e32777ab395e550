package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dems/transport"
)

// runDemsd runs the program to its end inside the test.
func runDemsd(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	status = run(t.Context(), args, strings.NewReader(""), &out, &problems)
	return status, out.String(), problems.String()
}

// pkiFolders are an empty authority's folder and one for certificates that is not there yet.
func pkiFolders(t *testing.T) (authority, dir string) {
	t.Helper()
	return filepath.Join(t.TempDir(), "authority"), filepath.Join(t.TempDir(), "pki")
}

// makeAll runs demsd pki all for three nodes and a front end, and more arguments, and expects it to succeed.
func makeAll(t *testing.T, authority, dir string, more ...string) (said string) {
	t.Helper()
	args := append([]string{"pki", "all", "--authority-dir", authority, "--dir", dir, "--nodes", "n1,n2,n3", "--frontends", "fe1"}, more...)
	status, stdout, stderr := runDemsd(t, args...)
	if status != statusDone || stderr != "" {
		t.Fatalf("%v: status %d\n%s%s", args, status, stdout, stderr)
	}
	return stdout
}

// content reads every file of a folder.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(data)
	}
	return files
}

// expectLoadable checks that every server of makeAll finds what it needs, and the authority's key does not lie there.
func expectLoadable(t *testing.T, dir string) {
	t.Helper()
	for id, role := range map[string]transport.Role{
		"n1": transport.RoleNode, "n2": transport.RoleNode, "n3": transport.RoleNode, "fe1": transport.RoleFrontEnd,
	} {
		if _, err := transport.LoadCredentials(dir, role, id); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ca.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the authority's key is among the certificates: %v", err)
	}
}

func TestAllCertificates(t *testing.T) {
	authority, dir := pkiFolders(t)
	if said := makeAll(t, authority, dir); strings.Count(said, "made a certificate for") != 4 {
		t.Errorf("said %q", said)
	}
	expectLoadable(t, dir)
	before := content(t, dir)
	if said := makeAll(t, authority, dir); said != "every certificate is there in "+dir+"\n" {
		t.Errorf("the second time, said %q", said)
	}
	said := makeAll(t, authority, dir, "--frontends", "fe2")
	if said != "made a certificate for frontend fe2 in "+dir+"\n" {
		t.Errorf("for one more, said %q", said)
	}
	after := content(t, dir)
	for name, data := range before {
		if after[name] != data {
			t.Errorf("%s changed", name)
		}
	}
	if len(after) != len(before)+2 {
		t.Errorf("%d files, then %d", len(before), len(after))
	}
}

// TestAllCertificatesAfterACrash shows that whatever a run leaves that was killed, the next one completes.
func TestAllCertificatesAfterACrash(t *testing.T) {
	for name, leave := range map[string]func(authority, dir string) error{
		"the authority's key alone": func(authority, _ string) error {
			return errors.Join(os.Mkdir(authority, 0o700), os.WriteFile(filepath.Join(authority, "ca.key"), []byte("half"), 0o600))
		},
		"the authority alone": func(authority, _ string) error { return transport.CreateAuthority(authority) },
		"half of the authority's copy": func(authority, dir string) error {
			return errors.Join(transport.CreateAuthority(authority), os.Mkdir(dir, 0o700),
				os.WriteFile(filepath.Join(dir, "ca.crt.new"), []byte("half"), 0o644))
		},
		"a key alone": func(authority, dir string) error {
			store := certificateStore{authorityDir: authority, dir: dir}
			_, err := store.complete([]identity{{transport.RoleNode, "n1"}})
			return errors.Join(err, os.WriteFile(filepath.Join(dir, "n2.key"), []byte("half"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			authority, dir := pkiFolders(t)
			if err := leave(authority, dir); err != nil {
				t.Fatal(err)
			}
			makeAll(t, authority, dir)
			expectLoadable(t, dir)
		})
	}
}

// TestAllCertificatesRefuses shows what is said, and that nothing is changed, where going on would spoil a cluster.
func TestAllCertificatesRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, authority, dir string)
		said   string
	}{
		"the authority is lost": {func(t *testing.T, authority, dir string) {
			if err := errors.Join(os.RemoveAll(authority), os.Remove(filepath.Join(dir, "n2.crt"))); err != nil {
				t.Fatal(err)
			}
		}, "put its two files back"},
		"all that is left is the authority's copy": {func(t *testing.T, authority, dir string) {
			if err := os.RemoveAll(authority); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"n1", "n2", "n3", "fe1"} {
				if err := os.Remove(filepath.Join(dir, id+".crt")); err != nil {
					t.Fatal(err)
				}
			}
		}, "put its two files back"},
		"another authority": {func(t *testing.T, authority, dir string) {
			if err := errors.Join(os.RemoveAll(authority), transport.CreateAuthority(authority), os.Remove(filepath.Join(dir, "n2.crt"))); err != nil {
				t.Fatal(err)
			}
		}, "is not the authority in"},
		"a certificate is not what it is called": {func(t *testing.T, _, dir string) {
			if err := errors.Join(os.Rename(filepath.Join(dir, "n1.crt"), filepath.Join(dir, "n2.crt")),
				os.Rename(filepath.Join(dir, "n1.key"), filepath.Join(dir, "n2.key"))); err != nil {
				t.Fatal(err)
			}
		}, "not for the node n2"},
	} {
		t.Run(name, func(t *testing.T) {
			authority, dir := pkiFolders(t)
			makeAll(t, authority, dir)
			test.change(t, authority, dir)
			before := content(t, dir)
			status, stdout, stderr := runDemsd(t, "pki", "all", "--authority-dir", authority, "--dir", dir, "--nodes", "n1,n2,n3", "--frontends", "fe1")
			if status != statusFailed || stdout != "" || !strings.Contains(stderr, test.said) {
				t.Errorf("status %d, said %q and %q, want %q", status, stdout, stderr, test.said)
			}
			after := content(t, dir)
			for name, data := range before {
				if after[name] != data && !strings.HasSuffix(name, ".key") { // a key without its certificate is of no use
					t.Errorf("%s changed", name)
				}
			}
		})
	}
}

func TestIdentitiesAreDifferent(t *testing.T) {
	for _, test := range []struct{ nodes, frontEnds, said string }{
		{"", "", "required"},
		{"n1,n1", "", "taken"},
		{"n1", "n1", "taken"},
		{"ca", "", "taken"},
		{"n1", "ca", "taken"},
		{"../n1", "", "a-z"},
		{"N1", "", "a-z"},
	} {
		authority, dir := pkiFolders(t)
		status, _, stderr := runDemsd(t, "pki", "all", "--authority-dir", authority, "--dir", dir, "--nodes", test.nodes, "--frontends", test.frontEnds)
		if status != statusUsage || !strings.Contains(stderr, test.said) {
			t.Errorf("%q and %q: status %d, said %q", test.nodes, test.frontEnds, status, stderr)
		}
		for _, folder := range []string{authority, dir} {
			if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%q and %q: %s was made", test.nodes, test.frontEnds, folder)
			}
		}
	}
}

// TestAuthorityElsewhere shows that single certificates, too, are made without the authority's key next to them.
func TestAuthorityElsewhere(t *testing.T) {
	authority, dir := pkiFolders(t)
	for _, args := range [][]string{{"init"}, {"issue", "--id", "n1"}, {"issue", "--role", "frontend", "--id", "fe1"}} {
		status, stdout, stderr := runDemsd(t, append([]string{"pki", "--authority-dir", authority, "--dir", dir}, args...)...)
		if status != statusDone || !strings.HasPrefix(stdout, "made a certificate ") {
			t.Fatalf("%v: status %d, said %q and %q", args, status, stdout, stderr)
		}
	}
	for id, role := range map[string]transport.Role{"n1": transport.RoleNode, "fe1": transport.RoleFrontEnd} {
		if _, err := transport.LoadCredentials(dir, role, id); err != nil {
			t.Error(err)
		}
	}
	if files := content(t, dir); len(files) != 5 || files["ca.key"] != "" {
		t.Errorf("%d files", len(files))
	}
}
