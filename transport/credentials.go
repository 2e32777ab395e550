package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Credentials are one server's certificate and key, and the authority by which peers must be certified. They are
// immutable.
type Credentials struct {
	role        Role
	name        string
	certificate tls.Certificate
	authority   *x509.CertPool
}

// Role returns what the certificate is for.
func (c *Credentials) Role() Role { return c.role }

// Name returns the node's or front end's ID.
func (c *Credentials) Name() string { return c.name }

// NotAfter returns when the certificate expires; from then on no new connection succeeds.
func (c *Credentials) NotAfter() time.Time { return c.certificate.Leaf.NotAfter }

// LoadCredentials reads dir/ca.crt, dir/<name>.crt and dir/<name>.key and checks them: the key belongs to the certificate
// and nobody else may read it, the certificate is valid now, signed by the authority, and for that role and name.
func LoadCredentials(dir string, role Role, name string) (*Credentials, error) {
	if err := checkIdentity(role, name); err != nil {
		return nil, err
	}
	authority, err := readAuthorityCertificate(dir)
	if err != nil {
		return nil, err
	}
	certificatePath, keyPath := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for _, path := range []string{certificatePath, keyPath} {
		if err := checkFile(path, path == keyPath); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("the certificate of %s %s is missing: make it with `demsd pki issue --dir %s --role %s --id %s`: %w",
					role, name, dir, role, name, err)
			}
			return nil, err
		}
	}
	certificate, err := tls.LoadX509KeyPair(certificatePath, keyPath)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", certificatePath, keyPath, err)
	}
	credentials := &Credentials{role: role, name: name, certificate: certificate, authority: x509.NewCertPool()}
	credentials.authority.AddCert(authority)
	if err := credentials.verify(time.Now()); err != nil {
		return nil, fmt.Errorf("%s: %w", certificatePath, err)
	}
	return credentials, nil
}

// checkFile checks that a file is there and, for a key, that it is not open to everybody. Reading by the file's group is
// left to the operator: secrets that an orchestrator mounts come that way.
func checkFile(path string, secret bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); secret && mode&0o027 != 0 {
		return fmt.Errorf("the key %s is open to other users (mode %04o): protect it with `chmod 600 %s`, or make a new one if it may have been read",
			path, mode, path)
	}
	return nil
}

func (c *Credentials) verify(now time.Time) error {
	leaf := c.certificate.Leaf
	again := fmt.Sprintf("remove it and its key, then `demsd pki issue --role %s --id %s` where the authority's key is", c.role, c.name)
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("expired on %s: %s", leaf.NotAfter.Format(time.DateOnly), again)
	}
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf("valid only from %s: check this machine's clock", leaf.NotBefore.Format(time.RFC3339))
	}
	if names := dnsNames(c.role, c.name); !slices.Equal(leaf.DNSNames, names) {
		return fmt.Errorf("it is for %q, not for the %s %s (%q): %s", leaf.DNSNames, c.role, c.name, names, again)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.authority, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("not signed by this cluster's authority (%s.crt next to it): %s: %w", authorityName, again, err)
	}
	return nil
}
