package transport

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// requester sends HTTP/3 requests on a connector's connection. It implements connect.HTTPClient. http3's own round tripper
// would do, but it hides whether anything was sent and starts two goroutines for each request.
type requester struct{ connector *connector }

// Do sends one request and returns the response. A *notSentError means that nothing left this process.
func (r *requester) Do(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	connection, stream, err := r.openStream(ctx)
	if err != nil {
		return nil, err
	}
	if call, ok := ctx.Value(callKey{}).(*call); ok {
		call.node = connection.node
	}
	stop := context.AfterFunc(ctx, func() { cancelRequest(stream) })
	response, err := roundTrip(request, stream)
	if err != nil {
		stop()
		cancelRequest(stream)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	response.Request = request
	response.Body = &responseBody{ReadCloser: response.Body, stop: stop}
	return response, nil
}

// openStream opens a stream, on a new connection if the one at hand turns out to be dead.
func (r *requester) openStream(ctx context.Context) (*connection, *http3.RequestStream, error) {
	for attempt := 0; ; attempt++ {
		connection, err := r.connector.get(ctx)
		if err != nil {
			return nil, nil, err
		}
		stream, err := connection.http.OpenRequestStream(ctx)
		if err == nil {
			return connection, stream, nil
		}
		if ctx.Err() != nil || attempt > 0 {
			return nil, nil, &notSentError{err}
		}
		r.connector.discard(connection)
	}
}

// roundTrip writes the whole request and then reads the response's header: no method of the service answers before it has
// the request. A node that refuses a request stops reading it; its answer counts then.
func roundTrip(request *http.Request, stream *http3.RequestStream) (*http.Response, error) {
	header := *request
	header.Body = nil
	if err := stream.SendRequestHeader(&header); err != nil {
		return nil, err
	}
	var writeErr error
	if request.Body != nil {
		_, writeErr = io.Copy(stream, request.Body)
		request.Body.Close()
	}
	if writeErr == nil {
		writeErr = stream.Close()
	}
	response, err := stream.ReadResponse()
	if err != nil && writeErr != nil {
		return nil, writeErr
	}
	return response, err
}

func cancelRequest(stream *http3.RequestStream) {
	stream.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	stream.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
}

// responseBody ends the watch over the request's context when the response has been read.
type responseBody struct {
	io.ReadCloser
	once sync.Once
	stop func() bool
}

func (b *responseBody) Close() error {
	b.once.Do(func() { b.stop() })
	return b.ReadCloser.Close()
}
