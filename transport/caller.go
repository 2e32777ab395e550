package transport

import (
	"context"

	"github.com/quic-go/quic-go"
)

// caller is who dialled a connection, by the certificate that it showed.
type caller struct {
	role Role
	name string
}

type callerKey struct{}

// Caller returns who makes the call that a Handler is given with ctx, as its certificate proves. Calls inside the process,
// which come over no connection, have no caller.
func Caller(ctx context.Context) (role Role, name string, ok bool) {
	who, ok := ctx.Value(callerKey{}).(caller)
	return who.role, who.name, ok
}

// withCaller is where the contexts of a connection's calls come from. The handshake has verified the certificate. Who would
// get here without one must not pass for a call inside the process, which is trusted: it is a caller without a role.
func withCaller(ctx context.Context, connection *quic.Conn) context.Context {
	var who caller
	if certificates := connection.ConnectionState().TLS.PeerCertificates; len(certificates) > 0 {
		who.role, who.name, _ = identity(certificates[0])
	}
	return context.WithValue(ctx, callerKey{}, who)
}
