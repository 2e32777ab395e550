package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"dems"
)

// Media types of answers.
const (
	jsonType    = "application/json"
	linesType   = "application/x-ndjson"
	problemType = "application/problem+json"
)

// maxRetryAfter bounds what a front end may ask to wait, so that a broken one cannot put a client to sleep.
const maxRetryAfter = time.Minute

// request is one logical operation as it goes over the wire, the same at every attempt.
type request struct {
	method  string
	path    string // escaped, with the query
	body    []byte // nil: none
	accept  string // media type of a success
	key     string // idempotency key; "": none is sent
	mutates bool   // whether an attempt without an answer may have changed something
	once    bool   // whether it is not sent again after such an attempt: no key makes a second one harmless
}

// response is a success.
type response struct {
	endpoint string
	header   http.Header
	body     []byte
}

// again says whether asking again can help.
type again uint8

const (
	never     again = iota // the answer is final
	elsewhere              // not here, but another front end may do better
	later                  // here too, after a pause
)

// failure is an attempt that did not succeed.
type failure struct {
	err       *Error
	again     again
	uncertain bool // whether this attempt may have applied the request
}

// attempt asks one front end once.
func (c *Client) attempt(ctx context.Context, endpoint string, r *request) (*response, *failure) {
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	question, err := c.question(ctx, endpoint, r)
	if err != nil {
		return nil, &failure{err: &Error{Code: dems.Internal, Detail: "The request cannot be made.", Err: err}}
	}
	answer, err := c.http.Do(question)
	if err != nil {
		// Without a connection nothing was sent; with one, anything may have happened.
		return nil, &failure{err: unreachable(endpoint, err), again: later, uncertain: connected.Load()}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, c.config.MaxResponseBytes+1))
	if err != nil {
		return nil, &failure{err: unreachable(endpoint, err), again: later, uncertain: true}
	}
	if int64(len(body)) > c.config.MaxResponseBytes {
		return nil, &failure{err: &Error{
			Code:     dems.Internal,
			Status:   answer.StatusCode,
			Detail:   fmt.Sprintf("The answer has more than %d bytes, which is more than this client reads.", c.config.MaxResponseBytes),
			Endpoint: endpoint,
		}}
	}
	if failed := judge(endpoint, r, answer, body); failed != nil {
		return nil, failed
	}
	return &response{endpoint: endpoint, header: answer.Header, body: body}, nil
}

// question makes the HTTP request.
func (c *Client) question(ctx context.Context, endpoint string, r *request) (*http.Request, error) {
	var body io.Reader = http.NoBody
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	question, err := http.NewRequestWithContext(ctx, r.method, endpoint+r.path, body)
	if err != nil {
		return nil, err
	}
	question.Header.Set("Accept", r.accept+", "+problemType)
	question.Header.Set("User-Agent", "dems-client")
	if r.body != nil {
		question.Header.Set("Content-Type", jsonType)
	}
	if r.key != "" {
		question.Header.Set("Idempotency-Key", r.key)
	}
	switch {
	case c.config.Token != "":
		question.Header.Set("Authorization", "Bearer "+c.config.Token)
	case c.user != (dems.UserID{}):
		question.Header.Set("Dems-User", c.user.String())
	}
	return question, nil
}

// unreachable is the failure of an attempt that got no whole answer.
func unreachable(endpoint string, err error) *Error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // what it adds, method and URL, is known
	}
	detail := "No front end can be reached; check the endpoints and that a front end runs there."
	if errors.Is(err, context.DeadlineExceeded) {
		detail = "No front end answered in time; look at the cluster, or allow more time."
	}
	return &Error{
		Code:     dems.Unavailable,
		Detail:   detail,
		Endpoint: endpoint,
		Err:      fmt.Errorf("%s: %w", endpoint, err),
	}
}

// judge returns nil for the success that was asked for, and otherwise what kind of failure an answer is.
func judge(endpoint string, r *request, answer *http.Response, body []byte) *failure {
	mediaType, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	switch {
	case answer.StatusCode == http.StatusNoContent && r.accept == jsonType && len(body) == 0:
		return nil
	case answer.StatusCode/100 == 2 && mediaType == r.accept:
		return nil
	case answer.StatusCode/100 >= 4 && mediaType == problemType:
		if failed := judgeProblem(endpoint, answer, body); failed != nil {
			return failed
		}
	}
	failed := &failure{again: elsewhere, err: &Error{
		Code:     dems.Unavailable,
		Status:   answer.StatusCode,
		Detail:   "What answers there is not a DEMS front end; check the endpoints.",
		Endpoint: endpoint,
		Err:      fmt.Errorf("%s: %w: status %d, content type %q", endpoint, errNotDEMS, answer.StatusCode, mediaType),
	}}
	// A proxy that lost its front end says 502 to 504, and a success that cannot be read is one all the same.
	failed.uncertain = answer.StatusCode/100 == 2 || answer.StatusCode/100 == 5
	if answer.StatusCode/100 == 5 {
		failed.again = later
	}
	return failed
}

// judgeProblem reads a problem document. It returns nil where the answer is none.
func judgeProblem(endpoint string, answer *http.Response, body []byte) *failure {
	var problem struct {
		Code     string `json:"code"`
		Detail   string `json:"detail"`
		Sequence uint64 `json:"sequence"`
	}
	if err := json.Unmarshal(body, &problem); err != nil || problem.Code == "" {
		return nil
	}
	failed := &failure{err: &Error{
		Status:     answer.StatusCode,
		Detail:     problem.Detail,
		Sequence:   problem.Sequence,
		Endpoint:   endpoint,
		RetryAfter: retryAfter(answer.Header),
		Body:       body,
	}}
	code, known := dems.ParseCode(problem.Code)
	if !known || code == dems.OK {
		code = dems.Internal
		failed.err.Detail = fmt.Sprintf("The front end answers with code %q, which this client does not know (%s); use a newer client.",
			problem.Code, problem.Detail)
		failed.uncertain = answer.StatusCode >= 500
	}
	failed.err.Code = code
	if failed.err.Detail == "" {
		failed.err.Detail = code.Advice()
	}
	switch code {
	case dems.Unavailable, dems.RateLimited:
		failed.again = later
	case dems.NoMajority, dems.Indeterminate:
		failed.again, failed.uncertain = later, true
	case dems.Internal:
		failed.again, failed.uncertain = elsewhere, known || failed.uncertain
	}
	return failed
}

// retryAfter reads the header of that name, in whole seconds; the form with a date is not used by front ends.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(strings.TrimSpace(header.Get("Retry-After")), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}
