// Package transport carries bytes between the servers of a cluster: one UDP socket per server, QUIC, TLS 1.3 with
// certificates of the cluster's own authority on both sides. Over it run Raft's streams and the RPC between front ends
// and nodes (Connect over HTTP/3).
//
// It owns the certificates on disk, connections, streams, deadlines and the limits on what comes in. It never interprets
// log entries, results or records, keeps no state of the cluster and retries nothing by itself.
//
// For drills, an endpoint's network can be impaired (package faulty): what is sent and received gets lost or late.
//
// An Endpoint starts goroutines to accept connections and to serve them; Close waits for all of them.
package transport
