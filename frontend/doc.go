// Package frontend is the front end of DEMS: the only thing that clients talk to.
//
// It owns the REST interface (routes, limits, strict decoding, bodies, problems, the OpenAPI document, health checks
// and metrics) and what stands behind the Cluster interface: batching commands for the leader, comparing what the nodes
// answered, and answering what a majority of them got. It is stateless: nothing that matters is kept in it, so clients
// may change to another front end at any time.
//
// It never applies a command itself, never decides between answers that have no majority, and knows nodes only through
// its own small interfaces, not through their package.
//
// The REST layer starts no goroutine of its own; net/http starts one for each connection. Core.Run starts one that watches
// each node, one that receives each node's votes, one that sends each node its reads, one that forms batches, and one for
// each batch and each question on its way; it returns when all have ended.
package frontend
