. "$(dirname "$0")/lib.sh"
PATH="$PATH:/usr/sbin"
need ldapadd ldapsearch slapd
PORT=$(free_port)
TLS_PORT=$(another_port)
mkdir "$WORK/db"
# By its address: the library takes `localhost` for the name of the machine, and looks for that in certificates.
printf '%s\n' 'include /etc/ldap/schema/core.schema' 'modulepath /usr/lib/ldap' 'moduleload back_mdb' "pidfile $WORK/slapd.pid" \
    "TLSCertificateFile $WORK/address.pem" "TLSCertificateKeyFile $WORK/address-key.pem" 'database mdb' 'suffix dc=example' \
    'rootdn cn=ada,dc=example' 'rootpw secret' "directory $WORK/db" 'dbnosync' >"$WORK/slapd.conf"
serve slapd -d 0 -f "$WORK/slapd.conf" -h "ldap://127.0.0.1:$PORT ldaps://127.0.0.1:$TLS_PORT"
plain="ldap://127.0.0.1:$PORT"
export LDAPTLS_REQCERT=demand
until_ok ldapsearch -x -H "$plain" -s base -b '' namingContexts
ada=(-D cn=ada,dc=example -w secret)
printf '%s\n' 'dn: dc=example' 'objectClass: dcObject' 'objectClass: organization' 'dc: example' 'o: example' |
    ldapadd -x -H "$plain" "${ada[@]}" >/dev/null

# The library knows a variable of its own only: it is given the file of authorities that the environment names, under exec with ours.
with='LDAPTLS_CACERT=$SSL_CERT_FILE exec "$@"'
for url in "$plain" "ldaps://127.0.0.1:$TLS_PORT"; do
    kind=${url%%:*}
    awk -v kind="$kind" 'BEGIN {
        for (n = 1; n <= 400; n++) {
            print "dn: cn=" kind n ",dc=example\nobjectClass: person\ncn: " kind n "\nsn: " kind
            printf "description: %02000d\n\n", n
        }
    }' >"$WORK/entries"
    $UNDER sh -c "$with" sh ldapadd -x -H "$url" "${ada[@]}" -f "$WORK/entries" >/dev/null
    same "$($UNDER sh -c "$with" sh ldapsearch -x -H "$url" -LLL -o ldif-wrap=no -b dc=example "(sn=$kind)" description |
        grep -c '^description: 0')" 400
    # Whoever is refused is told so: 49 is the server's own word for a wrong password.
    same "$(code_of $UNDER sh -c "$with" sh ldapsearch -x -H "$url" -D cn=ada,dc=example -w wrong -b dc=example 2>/dev/null)" 49
done
# The server's own certificate: this TLS is not ours to read, as it begins inside another protocol.
same "$($UNDER env LDAPTLS_CACERT="$CA" ldapsearch -x -ZZ -H "$plain" -LLL -b dc=example '(cn=ldaps7)' sn | grep '^sn')" 'sn: ldaps'
same "$(code_of $UNDER env LDAPTLS_CACERT="$WORK/stranger.pem" ldapsearch -x -ZZ -H "$plain" -b dc=example 2>/dev/null)" 1
