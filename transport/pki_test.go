package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cluster makes an authority with n1 and fe1 that the test may change.
func cluster(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	for _, err := range []error{CreateAuthority(dir), Issue(dir, RoleNode, "n1"), Issue(dir, RoleFrontEnd, "fe1")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mentions(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not mention %q", err, part)
		}
	}
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestIssuedFiles(t *testing.T) {
	dir := cluster(t)
	for name, mode := range map[string]fs.FileMode{
		"ca.crt": 0o644, "ca.key": 0o600, "n1.crt": 0o644, "n1.key": 0o600, "fe1.crt": 0o644, "fe1.key": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&^mode != 0 {
			t.Errorf("%s: mode %v, %v; want at most %v", name, info.Mode(), err, mode)
		}
	}
	ca := readCertificate(t, filepath.Join(dir, "ca.crt"))
	if !ca.IsCA || !ca.MaxPathLenZero || !slices.Equal(ca.PermittedDNSDomains, []string{"dems.internal"}) {
		t.Errorf("authority: %+v", ca)
	}
	for name, want := range map[string]struct {
		names  []string
		usages []x509.ExtKeyUsage
	}{
		"n1":  {[]string{"n1.node.dems.internal", "node.dems.internal"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}},
		"fe1": {[]string{"fe1.frontend.dems.internal", "frontend.dems.internal"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	} {
		leaf := readCertificate(t, filepath.Join(dir, name+".crt"))
		key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
		if !slices.Equal(leaf.DNSNames, want.names) || !slices.Equal(leaf.ExtKeyUsage, want.usages) || leaf.IsCA ||
			!ok || key.Curve != elliptic.P256() || leaf.CheckSignatureFrom(ca) != nil {
			t.Errorf("%s: names %q, usages %v, key %T", name, leaf.DNSNames, leaf.ExtKeyUsage, leaf.PublicKey)
		}
		if left := time.Until(leaf.NotAfter); left > leafLifetime || left < leafLifetime-time.Hour {
			t.Errorf("%s: valid for %v", name, left)
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := cluster(t)
	before, _ := os.ReadFile(filepath.Join(dir, "n1.crt"))
	mentions(t, CreateAuthority(dir), "ca.crt", "exists")
	mentions(t, Issue(dir, RoleNode, "n1"), "n1.crt", "exists")
	mentions(t, Issue(dir, RoleFrontEnd, "n1"), "n1.crt", "exists")
	if after, _ := os.ReadFile(filepath.Join(dir, "n1.crt")); !slices.Equal(before, after) {
		t.Error("the certificate changed")
	}
	// A key without a certificate is what a crash in between leaves.
	os.Remove(filepath.Join(dir, "n1.crt"))
	err := Issue(dir, RoleNode, "n1")
	mentions(t, err, "n1.key", "exists", "remove it")
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v is not fs.ErrExist", err)
	}
	os.Remove(filepath.Join(dir, "n1.key"))
	if err := Issue(dir, RoleNode, "n1"); err != nil {
		t.Errorf("after the removal: %v", err)
	}
}

func TestIssueFromAnotherFolder(t *testing.T) {
	authority, dir := cluster(t), t.TempDir()
	if err := IssueFrom(authority, dir, RoleNode, "n2"); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v; want a certificate and its key", entries, err)
	}
	if err := os.Link(filepath.Join(authority, "ca.crt"), filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCredentials(dir, RoleNode, "n2"); err != nil {
		t.Error(err)
	}
	mentions(t, IssueFrom(dir, dir, RoleNode, "n3"), "authority's key")
	mentions(t, IssueFrom(t.TempDir(), dir, RoleNode, "n3"), "authority is missing")
}

func TestIssueRefuses(t *testing.T) {
	dir := cluster(t)
	for _, name := range []string{"", "ca", "N1", "1n", "-n", "n_1", "n.1", "../n1", strings.Repeat("n", 33)} {
		mentions(t, Issue(dir, RoleNode, name), "ID")
	}
	mentions(t, Issue(dir, "admin", "a1"), "role", "node", "frontend")
	mentions(t, Issue(filepath.Join(dir, "absent"), RoleNode, "n1"), "authority is missing", "demsd pki init --dir")
	os.Remove(filepath.Join(dir, "ca.key"))
	mentions(t, Issue(dir, RoleNode, "n2"), "authority's key", "ca.key")
	other := cluster(t)
	key, _ := os.ReadFile(filepath.Join(other, "ca.key"))
	os.WriteFile(filepath.Join(dir, "ca.key"), key, 0o600)
	mentions(t, Issue(dir, RoleNode, "n2"), "not the key of")
	for _, content := range []string{"", "junk", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		os.WriteFile(filepath.Join(dir, "ca.key"), []byte(content), 0o600)
		mentions(t, Issue(dir, RoleNode, "n2"), "ca.key")
	}
	if _, err := os.Stat(filepath.Join(dir, "n2.key")); err == nil {
		t.Error("a refused Issue left a key")
	}
}

func TestLoadCredentials(t *testing.T) {
	dir := cluster(t)
	loaded, err := LoadCredentials(dir, RoleNode, "n1")
	if err != nil || loaded.Role() != RoleNode || loaded.Name() != "n1" || time.Until(loaded.NotAfter()) < 365*24*time.Hour {
		t.Fatalf("got %+v, %v", loaded, err)
	}
	os.Remove(filepath.Join(dir, "ca.key")) // servers do without
	if _, err := LoadCredentials(dir, RoleFrontEnd, "fe1"); err != nil {
		t.Error(err)
	}
}

func TestLoadCredentialsTellsWhatIsWrong(t *testing.T) {
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	foreign := cluster(t)
	for name, test := range map[string]struct {
		damage   func(dir string)
		role     Role
		id       string
		mentions []string
	}{
		"no authority": {func(dir string) { os.Remove(dir + "/ca.crt") }, RoleNode, "n1",
			[]string{"authority is missing", "demsd pki init --dir"}},
		"authority is junk": {func(dir string) { os.WriteFile(dir+"/ca.crt", []byte("junk"), 0o644) }, RoleNode, "n1",
			[]string{"ca.crt", "PEM"}},
		"authority is a leaf": {func(dir string) { move(dir+"/fe1.crt", dir+"/ca.crt") }, RoleNode, "n1",
			[]string{"ca.crt", "not the certificate of an authority"}},
		"no certificate": {func(string) {}, RoleNode, "n7",
			[]string{"missing", "demsd pki issue --dir", "--role node --id n7"}},
		"no key": {func(dir string) { os.Remove(dir + "/fe1.key") }, RoleFrontEnd, "fe1",
			[]string{"missing", "--role frontend --id fe1"}},
		"key of another": {func(dir string) { move(dir+"/fe1.key", dir+"/n1.key") }, RoleNode, "n1",
			[]string{"n1.crt", "n1.key"}},
		"key is junk": {func(dir string) { os.WriteFile(dir+"/n1.key", []byte("junk"), 0o600) }, RoleNode, "n1",
			[]string{"n1.key"}},
		"world can read the key": {func(dir string) { os.Chmod(dir+"/n1.key", 0o604) }, RoleNode, "n1",
			[]string{"open to other users", "0604", "chmod 600"}},
		"group can write the key": {func(dir string) { os.Chmod(dir+"/n1.key", 0o620) }, RoleNode, "n1",
			[]string{"open to other users", "0620"}},
		"another authority": {func(dir string) { move(foreign+"/ca.crt", dir+"/ca.crt") }, RoleNode, "n1",
			[]string{"not signed by this cluster's authority", "demsd pki issue"}},
		"another role": {func(string) {}, RoleFrontEnd, "n1", []string{"not for the frontend n1"}},
		"another name": {func(dir string) { move(dir+"/n1.crt", dir+"/n2.crt"); move(dir+"/n1.key", dir+"/n2.key") },
			RoleNode, "n2", []string{"not for the node n2"}},
		"bad name": {func(string) {}, RoleNode, "../n1", []string{"ID"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := cluster(t)
			test.damage(dir)
			_, err := LoadCredentials(dir, test.role, test.id)
			mentions(t, err, test.mentions...)
		})
	}
	t.Run("readable by the group", func(t *testing.T) {
		dir := cluster(t)
		os.Chmod(dir+"/n1.key", 0o640)
		if _, err := LoadCredentials(dir, RoleNode, "n1"); err != nil {
			t.Error(err)
		}
	})
}

func TestCertificatesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // with a clock that can be put forward
		dir := cluster(t)
		time.Sleep(leafLifetime - time.Second)
		if _, err := LoadCredentials(dir, RoleNode, "n1"); err != nil {
			t.Errorf("a second before the end: %v", err)
		}
		time.Sleep(2 * time.Second)
		_, err := LoadCredentials(dir, RoleNode, "n1")
		mentions(t, err, "expired on 2001-12-3", "demsd pki issue")
		time.Sleep(authorityLifetime - leafLifetime - time.Hour)
		if err := Issue(dir, RoleNode, "n2"); err != nil {
			t.Fatal(err)
		}
		ca, leaf := readCertificate(t, dir+"/ca.crt"), readCertificate(t, dir+"/n2.crt")
		if !leaf.NotAfter.Equal(ca.NotAfter) {
			t.Errorf("a certificate outlives its authority: %v, %v", leaf.NotAfter, ca.NotAfter)
		}
		credentials, err := LoadCredentials(dir, RoleNode, "n2")
		if err != nil {
			t.Fatal(err)
		}
		mentions(t, credentials.verify(time.Now().Add(-2*clockSkew)), "clock")
		time.Sleep(2 * time.Hour)
		_, err = LoadCredentials(dir, RoleNode, "n2")
		mentions(t, err, "ca.crt", "authority expired")
		mentions(t, Issue(dir, RoleNode, "n3"), "ca.crt", "authority expired")
	})
}

func TestIdentity(t *testing.T) {
	for _, names := range [][]string{
		nil, {"node.dems.internal"}, {"n1.node.dems.internal"}, {"node.dems.internal", "n1.node.dems.internal"},
		{"n1.node.dems.internal", "frontend.dems.internal"}, {"n.1.node.dems.internal", "node.dems.internal"},
		{".node.dems.internal", "node.dems.internal"}, {"n1.node.dems.internal", "node.dems.internal", "x.dems.internal"},
		{"N1.node.dems.internal", "node.dems.internal"},
	} {
		if role, name, err := identity(&x509.Certificate{DNSNames: names}); err == nil {
			t.Errorf("%q is the %s %s", names, role, name)
		}
	}
	for _, role := range []Role{RoleNode, RoleFrontEnd} {
		gotRole, name, err := identity(&x509.Certificate{DNSNames: dnsNames(role, "x-1")})
		if gotRole != role || name != "x-1" || err != nil {
			t.Errorf("got %s, %s, %v", gotRole, name, err)
		}
	}
}
