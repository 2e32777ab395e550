package transport

import "errors"

// Role says what a certificate is for.
type Role string

// The roles.
const (
	RoleNode     Role = "node"
	RoleFrontEnd Role = "frontend"
)

var errTodo = errors.New("transport: not written yet")

// CreateAuthority makes dir/ca.crt and dir/ca.key. It never overwrites.
func CreateAuthority(dir string) error { return errTodo }

// Issue makes dir/<name>.crt and dir/<name>.key, signed by the authority in dir. It never overwrites.
func Issue(dir string, role Role, name string) error { return errTodo }

// Credentials are one server's certificate, its key, and the authority that peers must be certified by.
type Credentials struct{}

// LoadCredentials reads and checks dir/ca.crt, dir/<name>.crt and dir/<name>.key.
func LoadCredentials(dir string, role Role, name string) (*Credentials, error) { return nil, errTodo }
