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
		"commands count as not sent to a node that can run them", "server/nodetls.go",
		"		n += len(plain)\n		wrote, err := s.below.Write(records)\n",
		"		wrote, err := s.below.Write(records)\n" +
			"		if wrote == len(records) {\n			n += len(plain)\n		}\n",
		"./server", "TestSentCommandsCountAsWritten",
	},
	{
		"a node's certificate is not verified", "config/nodetls.go",
		"InsecureSkipVerify: t.InsecureSkipVerify,", "InsecureSkipVerify: true,",
		"./test", "TestTLSErrorsNameTheRemedy",
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
	{
		"an idle client over TLS keeps a buffer", "tlsconn/conn.go",
		"	c.in = nil\n	return n, nil",
		"	c.in = make([]byte, 8<<10)\n	for i := range c.in {\n		c.in[i] = 1\n	}\n" +
			"	c.in = c.in[:0]\n	return n, nil",
		"./test/faults", "TestManyTLSClients",
	},
}
