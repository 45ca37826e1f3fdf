package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// issue returns a certificate and its key for server and client use on loopback.
func (a *authority) issue(t *testing.T) (cert, key []byte) {
	t.Helper()
	k := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return k
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

// TestTLS walks a web config file through TLS, client certificates and basic auth,
// with real clients.
func TestTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	cert, key := ca.issue(t)
	write(t, filepath.Join(dir, "server.crt"), cert)
	write(t, filepath.Join(dir, "server.key"), key)
	write(t, filepath.Join(dir, "ca.crt"), ca.pem)
	file := filepath.Join(dir, "web.yml")
	users := func(password string) {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		require.NoError(t, err)
		write(t, file, fmt.Appendf(nil, `
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_ca_file: ca.crt
  client_auth_type: RequireAndVerifyClientCert
basic_auth_users:
  ops: %s
`, hash))
	}
	users("old")
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }),
		func(c *Config, _ *Deps) { c.WebConfigFile, c.AdminListen = file, "127.0.0.1:0" })

	client := func(signer *authority) *http.Client {
		pool := x509.NewCertPool()
		pool.AddCert(ca.cert)
		cfg := &tls.Config{RootCAs: pool}
		if signer != nil {
			crt, key := signer.issue(t)
			pair, err := tls.X509KeyPair(crt, key)
			require.NoError(t, err)
			cfg.Certificates = []tls.Certificate{pair}
		}
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	get := func(c *http.Client, url, password string) (int, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		require.NoError(t, err)
		if password != "" {
			req.SetBasicAuth("ops", password)
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	url := "https://" + s.Addr().String() + "/x"

	_, _, err := get(client(nil), url, "old")
	require.Error(t, err, "no client certificate")
	_, _, err = get(client(stranger), url, "old")
	require.Error(t, err, "certificate of another authority")
	status, _, err := get(http.DefaultClient, s.url+"/x", "old")
	require.NoError(t, err)
	require.Equal(t, 400, status, "plain HTTP on a TLS port")

	known := client(ca)
	status, _, err = get(known, url, "")
	require.NoError(t, err)
	require.Equal(t, 401, status, "no password")
	status, _, err = get(known, url, "wrong")
	require.NoError(t, err)
	require.Equal(t, 401, status, "wrong password")
	status, body, err := get(known, url, "old")
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, "HTTP/2.0", body)
	status, _, err = get(known, "https://"+s.AdminAddr().String()+"/debug/pprof/cmdline", "")
	require.NoError(t, err)
	require.Equal(t, 401, status, "the admin port is behind the same lock")

	users("new") // the file is read again by itself
	status, _, err = get(known, url, "old")
	require.NoError(t, err)
	require.Equal(t, 401, status)
	status, _, err = get(known, url, "new")
	require.NoError(t, err)
	require.Equal(t, 200, status)
}

func TestBadWebConfig(t *testing.T) {
	for name, text := range map[string]string{
		"no such key":    "tls_server_confg: {}\n",
		"no certificate": "tls_server_config: {cert_file: nowhere.crt, key_file: nowhere.key}\n",
		"no hash":        "basic_auth_users: {ops: plain}\n",
	} {
		file := filepath.Join(t.TempDir(), "web.yml")
		write(t, file, []byte(text))
		cfg := DefaultConfig()
		cfg.WebConfigFile = file
		_, err := New(cfg, Deps{Registerer: prometheus.NewRegistry(), Handler: http.NotFoundHandler()})
		require.ErrorContains(t, err, "server.web_config_file", name)
	}
}
