package transport

import (
	"crypto/tls"
	"errors"
	"fmt"

	"dems"

	"github.com/quic-go/quic-go/http3"
)

// The protocols of a connection, told apart by ALPN.
const (
	protocolRaft = "dems-raft/1"
	protocolRPC  = http3.NextProtoH3
)

// serverTLS accepts peers that the cluster's authority certified for a role that may use the protocol.
func (c *Credentials) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{c.certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    c.authority,
		NextProtos:   []string{protocolRPC, protocolRaft},
		// Every connection shows its certificate again: nothing outlives it by more than the connection.
		SessionTicketsDisabled: true,
		VerifyConnection:       verifyPeer,
	}
}

// clientTLS accepts only nodes, and where a node is named only that one.
func (c *Credentials) clientTLS(protocol string, node dems.NodeID) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{c.certificate},
		RootCAs:                c.authority,
		ServerName:             serverName(node),
		NextProtos:             []string{protocol},
		SessionTicketsDisabled: true,
		VerifyConnection:       verifyPeer,
	}
}

func serverName(node dems.NodeID) string {
	if node == "" {
		return roleDomain(RoleNode)
	}
	return string(node) + "." + roleDomain(RoleNode)
}

// verifyPeer runs after the standard verification of chain, time and name, and adds what the role permits. On the dialling
// side the standard verification has already insisted on a node.
func verifyPeer(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	role, name, err := identity(state.PeerCertificates[0])
	if err != nil {
		return err
	}
	if state.NegotiatedProtocol == protocolRaft && role != RoleNode {
		return fmt.Errorf("the %s %s may not speak %s", role, name, protocolRaft)
	}
	return nil
}
