package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, 32<<10)
	return &p
}

func (b *buffers) put(p *[]byte) { b.pool.Put(p) }

// relay passes an answer on as it comes, so that events arrive when they happen.
// An answer that breaks off breaks off here too.
func (b *buffers) relay(w http.ResponseWriter, resp *http.Response) {
	h := w.Header()
	copyHeader(h, resp.Header)
	for name := range resp.Trailer {
		h.Add("Trailer", name)
	}
	// What the API does not say is not guessed.
	for _, name := range []string{"Content-Type", "Date"} {
		if _, ok := h[name]; !ok {
			h[name] = nil
		}
	}
	announced := len(resp.Trailer)
	w.WriteHeader(resp.StatusCode)
	if err := b.copy(w, resp); err != nil {
		panic(http.ErrAbortHandler)
	}
	for name, values := range resp.Trailer {
		if len(resp.Trailer) != announced {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// copyHeader copies all headers but those of the connection.
func copyHeader(to, from http.Header) {
	for name, values := range from {
		if !hopByHop(name) {
			to[name] = values
		}
	}
	for _, names := range from["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			delete(to, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
}

func (b *buffers) copy(w http.ResponseWriter, resp *http.Response) error {
	buf := b.get()
	defer b.put(buf)
	control := http.NewResponseController(w)
	left := resp.ContentLength
	if left < 0 {
		_ = control.Flush() // the head is worth knowing before the first byte
	}
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return werr
			}
			if left -= int64(n); err == nil && left != 0 {
				_ = control.Flush()
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// upgrade answers 101 and passes the bytes of both sides on. Toward the child
// they are scrubbed where scrub is not nil.
func (t *tunnels) upgrade(w http.ResponseWriter, resp *http.Response, scrub *scrubber) {
	far, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		refuse(w, http.StatusBadGateway, "the API changed the protocol without being asked")
		return
	}
	near, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusBadGateway, "the API changed the protocol without being asked")
		return
	}
	t.add(near)
	defer t.remove(near)
	defer func() { _ = near.Close() }()
	h := make(http.Header)
	copyHeader(h, resp.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	fmt.Fprintf(buf.Writer, "HTTP/1.1 101 Switching Protocols\r\n")
	if h.Write(buf.Writer) != nil {
		return
	}
	fmt.Fprintf(buf.Writer, "\r\n")
	if buf.Flush() != nil {
		return
	}
	down := io.Reader(far)
	if scrub != nil {
		down = scrub.frames(far)
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(far, buf.Reader)
		_ = far.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(near, down)
		_ = near.Close()
	})
	both.Wait()
}

// forwardPlain passes a request for a foreign host on over http, as it is.
func (e *Egress) forwardPlain(w http.ResponseWriter, r *http.Request, host string) {
	out := outgoing(r, "http", host)
	out.Body = r.Body
	way, err := e.choose(out, false)
	if err != nil {
		e.refuse(w, r, refusalStatus(err), unreachable(host, err))
		return
	}
	resp, err := way.RoundTrip(out)
	if err != nil {
		e.refuse(w, r, refusalStatus(err), unreachable(host, err))
		return
	}
	defer func() { _ = resp.Body.Close() }()
	e.log(r, host, resp.StatusCode, "passed on")
	if resp.StatusCode == http.StatusSwitchingProtocols {
		e.tunnels.upgrade(w, resp, nil)
		return
	}
	e.buffers.relay(w, resp)
}
