package transport

import (
	"context"
	"net/http"
	"net/http/httptrace"

	"dems"
)

// requester sends HTTP/3 requests on a connector's connection. It implements connect.HTTPClient. http3's own cache of
// connections would do but for two things: it does not tell who answers, and not whether anything was sent.
type requester struct{ connector *connector }

// call is what a request learns on its way.
type call struct {
	node dems.NodeID // who got it
	sent bool        // whether the node may have seen it
}

type callKey struct{}

// withCall returns a context under which a request notes what it learns.
func withCall(ctx context.Context) (context.Context, *call) {
	call := new(call)
	ctx = context.WithValue(ctx, callKey{}, call)
	// A node that has not got the whole header has not got a request.
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { call.sent = true }}), call
}

// Do sends one request and returns the response, on a new connection if the one at hand turns out to be dead.
func (r *requester) Do(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	call := ctx.Value(callKey{}).(*call)
	for attempt := 0; ; attempt++ {
		connection, err := r.connector.get(ctx)
		if err != nil {
			return nil, err
		}
		call.node = connection.node
		response, err := connection.http.RoundTrip(request)
		if err == nil || call.sent {
			return response, err
		}
		// The body has not been read yet either.
		if ctx.Err() != nil || attempt > 0 {
			return nil, err
		}
		r.connector.discard(connection)
	}
}
