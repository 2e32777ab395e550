// Package client is the Go client of DEMS's REST API.
//
// It owns how a client behaves towards front ends: one idempotency key for each logical operation and all its retries,
// failover between front ends, what counts as certainly not applied and what as unknown, and the log that each user
// keeps of the own operations. It decides no business rule: it checks that identifiers are well-formed, because they
// become parts of addresses, and leaves everything else to the front end. It keeps no state between operations but
// which front end answered last. It starts no goroutine that outlives a call, except those that net/http keeps for idle
// connections until Close.
package client
