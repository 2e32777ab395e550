package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dems"
)

// Role says what a certificate is for.
type Role string

// The roles.
const (
	RoleNode     Role = "node"     // answers RPC and Raft
	RoleFrontEnd Role = "frontend" // asks by RPC, answers nothing
)

const (
	domain            = "dems.internal"
	authorityName     = "ca"
	authorityLifetime = 10 * 365 * 24 * time.Hour
	// leafLifetime is how long a node's or a front end's certificate is valid: short enough that issuing stays practised,
	// long enough for a cluster that nobody touches for a year. Connections that stand outlive it; new ones do not.
	leafLifetime = 2 * 365 * 24 * time.Hour
	// clockSkew is how far behind the clock of a peer may be for a certificate made just now.
	clockSkew = time.Hour
)

// CreateAuthority makes a cluster's authority: dir/ca.crt, which every server needs, and dir/ca.key (mode 0600), which
// only Issue needs and which is better kept off the servers. It makes dir if need be and never overwrites. Valid for
// ten years.
func CreateAuthority(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the authority's folder: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:                serialNumber(),
		Subject:                     pkix.Name{CommonName: "DEMS cluster authority"},
		NotBefore:                   time.Now().Add(-clockSkew),
		NotAfter:                    time.Now().Add(authorityLifetime),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{domain},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make the authority's certificate: %w", err)
	}
	return writePair(dir, authorityName, key, certificate)
}

// Issue makes dir/<name>.crt and dir/<name>.key (mode 0600), signed by the authority in dir, whose key it needs. It never
// overwrites: to renew a certificate, remove its two files first. Valid for two years.
func Issue(dir string, role Role, name string) error { return IssueFrom(dir, dir, role, name) }

// IssueFrom is Issue with the authority in a folder of its own, so that its key does not lie where servers look. The servers
// need a copy of its ca.crt next to their certificates, which IssueFrom does not make.
func IssueFrom(authorityDir, dir string, role Role, name string) error {
	if err := checkIdentity(role, name); err != nil {
		return err
	}
	authority, authorityKey, err := loadAuthority(authorityDir)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key of %s: %w", name, err)
	}
	notAfter := time.Now().Add(leafLifetime)
	if notAfter.After(authority.NotAfter) {
		notAfter = authority.NotAfter
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if role == RoleNode {
		usages = append(usages, x509.ExtKeyUsageServerAuth)
	}
	template := &x509.Certificate{
		SerialNumber: serialNumber(),
		Subject:      pkix.Name{CommonName: name, OrganizationalUnit: []string{string(role)}},
		NotBefore:    time.Now().Add(-clockSkew),
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  usages,
		DNSNames:     dnsNames(role, name),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), authorityKey)
	if err != nil {
		return fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	return writePair(dir, name, key, certificate)
}

// dnsNames are the names that a certificate carries: the server's own and its role's.
func dnsNames(role Role, name string) []string {
	return []string{name + "." + roleDomain(role), roleDomain(role)}
}

func roleDomain(role Role) string { return string(role) + "." + domain }

// identity returns who a verified certificate names.
func identity(certificate *x509.Certificate) (Role, string, error) {
	if len(certificate.DNSNames) == 2 {
		for _, role := range []Role{RoleNode, RoleFrontEnd} {
			name, ok := strings.CutSuffix(certificate.DNSNames[0], "."+roleDomain(role))
			if ok && certificate.DNSNames[1] == roleDomain(role) && dems.ValidName(name) {
				return role, name, nil
			}
		}
	}
	return "", "", fmt.Errorf("the certificate for %q names neither a node nor a front end of a DEMS cluster", certificate.DNSNames)
}

func checkIdentity(role Role, name string) error {
	if role != RoleNode && role != RoleFrontEnd {
		return fmt.Errorf("role %q: it is %s or %s", role, RoleNode, RoleFrontEnd)
	}
	if !dems.ValidName(name) || name == authorityName {
		return fmt.Errorf("ID %q: write 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter, and not %q", name, authorityName)
	}
	return nil
}

func loadAuthority(dir string) (*x509.Certificate, crypto.Signer, error) {
	certificate, err := readAuthorityCertificate(dir)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, authorityName+".key")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("the authority's key, without which nothing can be issued: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, nil, fmt.Errorf("%s holds no PEM block", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, nil, fmt.Errorf("%s is not the key of %s.crt next to it", path, authorityName)
	}
	return certificate, key, nil
}

func readAuthorityCertificate(dir string) (*x509.Certificate, error) {
	path := filepath.Join(dir, authorityName+".crt")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the cluster's authority is missing: make it with `demsd pki init --dir %s`, or copy %s.crt there: %w",
			dir, authorityName, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the cluster's authority: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return nil, fmt.Errorf("%s does not hold exactly one PEM certificate", path)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !certificate.IsCA {
		return nil, fmt.Errorf("%s is not the certificate of an authority", path)
	}
	if time.Now().After(certificate.NotAfter) {
		return nil, fmt.Errorf("%s: the cluster's authority expired on %s: make a new one in another folder with `demsd pki init`, and new certificates for every server",
			path, certificate.NotAfter.Format(time.DateOnly))
	}
	return certificate, nil
}

// serialNumber returns 128 random bits.
func serialNumber() *big.Int {
	var bytes [16]byte
	rand.Read(bytes[:]) // never fails
	return new(big.Int).SetBytes(bytes[:])
}

// writePair writes dir/<name>.key and dir/<name>.crt. The key comes first: a certificate without a key is never seen.
func writePair(dir, name string, key *ecdsa.PrivateKey, certificate []byte) error {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode the key of %s: %w", name, err)
	}
	keyPath, certificatePath := filepath.Join(dir, name+".key"), filepath.Join(dir, name+".crt")
	if _, err := os.Lstat(certificatePath); err == nil {
		return fmt.Errorf("%s exists already; remove it and %s to make new ones", certificatePath, keyPath)
	}
	if err := writeNew(keyPath, 0o600, pemBlock("PRIVATE KEY", encoded)); err != nil {
		return err
	}
	if err := writeNew(certificatePath, 0o644, pemBlock("CERTIFICATE", certificate)); err != nil {
		os.Remove(keyPath)
		return err
	}
	return syncDirectory(dir)
}

func pemBlock(kind string, data []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data})
}

// writeNew writes a file that must not exist and syncs it. On failure it leaves none behind.
func writeNew(path string, mode os.FileMode, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is not overwritten; remove it to make a new one: %w", path, err)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDirectory(dir string) error {
	directory, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
