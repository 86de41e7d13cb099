package main

// inTLS are planted in what serves clients that speak TLS.
var inTLS = []bug{
	{
		"sealed bytes count as written before the socket has them", "server/tls.go",
		"		if err := s.drain(); err != nil {\n			return n, err\n		}\n		n += s.sealed",
		"		n += s.sealed\n		if err := s.drain(); err != nil {\n			return n, err\n		}",
		"./server", "TestSealedBytesCountWhenAccepted",
	},
	{
		"a record that is cut ends the connection", "tlsconn/conn.go",
		"func (waitError) Temporary() bool { return true }", "func (waitError) Temporary() bool { return false }",
		"./tlsconn", "TestOpenAndSeal",
	},
	{
		"a client's certificate is not asked for", "config/tls.go",
		"s.ClientAuth = tls.RequireAndVerifyClientCert", "s.ClientAuth = tls.VerifyClientCertIfGiven",
		"./test", "TestClientCertificates",
	},
}
