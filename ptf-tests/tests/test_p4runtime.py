"""P4Runtime: what is written is what is read, and what is wrong is refused by itself."""

from p4.v1 import p4runtime_pb2

from dmuxtest.base_test import DELETE, INSERT, MODIFY
from dmuxtest.gateway import PROTOCOL, ROUTER_INDEX, GatewayTest, from_client, to_router
from dmuxtest.p4runtime import WriteError


def comparable(entry):
    """Without what is not part of an entry's identity, and with its sets in order (specification 8.2)."""
    copy = p4runtime_pb2.TableEntry()
    copy.CopyFrom(entry)
    for name in ("counter_data", "meter_config", "meter_counter_data", "time_since_last_hit"):
        copy.ClearField(name)
    match = sorted(copy.match, key=lambda m: m.field_id)
    copy.ClearField("match")
    copy.match.extend(match)
    return copy.SerializeToString(deterministic=True)


class ReadBackIsWhatWasWritten(GatewayTest):
    def runTest(self):
        e = self.entry
        self.insert_all([
            e("punt", {}, "punt", priority=1, reason=0),
            e("punt", {"dst": ("10.0.0.0", 0xFF000000), "shim_kind": (4, 0x0F)}, "punt", priority=0x7FFFFFFF, reason=255),
            e("source_guard", {"src": ("128.0.0.0", 1)}, "allow"),
            e("demux", {"protocol": 0xFFFF, "provider": 0xFFFFFFFF}, "to_set", set=0xFFFFFFFF, mask=0xFFFF),
            e("demux", {"protocol": 0, "provider": 0}, "to_router", router=0),
            e("bucket", {"set": 0xFFFFFFFF, "bucket": 0xFFFF}, "to_router", router=0xFFFFFFFF),
            e("router", {"router": 0xFFFFFFFF}, "tunnel", dst="255.255.255.255", dst_port=65535),
            e("router", {"router": 0}, "tunnel", dst=0, dst_port=0),
            e("return_source", {"src": 0, "src_port": 65535, "protocol": 256}, "accept_return"),
            e("ipv4_route", {"dst": ("128.0.0.0", 1)}, "via_group", first=65535, mask=255),
            e("nexthop", {"nexthop": 65535}, "set_nexthop", port=509, src_mac=1, dst_mac=(1 << 48) - 1, mtu=65535),
            e("router", {"router": 1}, "to_metalink", mli=(1 << 24) - 1, gateway=65535),
            e("access_port", {"port": 509}, "set_access_link", link=65535, flood_group=65535, gateway=65535, gateway_addr="192.0.2.1"),
            e("access_vlan", {"link": 65535, "vid": 4095}, "provisioned"),
            e("access_vlan", {"link": 0, "vid": 0}, "multipoint"),
            e("discovery_port", {"port": 509}, "discover"),
            e("shared_mli", {"link": 65535, "mli": (1 << 24) - 1}, "shared"),
            e("endpoint", {"port": 509, "src": (1 << 48) - 1}, "set_endpoint", endpoint=0xFFFFFFFF),
            e("metalink_rx", {"endpoint": 0xFFFFFFFF, "mli": 0xFFFFFF}, "metalink", protocol=65535, provider=0xFFFFFFFF, cell=16383,
              police=255),
            e("metalink_rx", {"endpoint": 0, "mli": 0}, "metalink_control", cell=0),
            e("metalink_tx", {"gateway": 65535, "mli": 0xFFFFFF, "protocol": 65535}, "send_metalink", port=509, src_mac=1,
              dst_mac=(1 << 48) - 1, vid=4095, pcp=7, queue=7, mtu=65535, cell=16383),
            e("lan_source", {"port": 509, "vid": 4095, "src": (1 << 48) - 1}, "known_source"),
            e("lan_forward", {"link": 65535, "vid": 4095, "dst": 0}, "to_port", port=509),
        ])
        for table in self.p4info.tables:
            with self.subTest(table=table):
                written = [x for x in self._inserted if x.table_id == self.p4info.tables[table].preamble.id]
                self.assertTrue(written, "each table has an entry in this test")
                read = [x for x in self.read_table(table) if not x.is_default_action]
                self.assertEqual(sorted(map(comparable, read)), sorted(map(comparable, written)))


class ReadOfManyKeysOfWhichSomeAreThere(GatewayTest):
    """One request with many keys answers the entries that are there, and the others are no error: so a controller looks up the
    longest prefix, with a key for each length."""

    def runTest(self):
        self.insert("source_guard", {"src": ("203.0.112.0", 20)}, "allow")
        self.insert("source_guard", {"src": ("203.0.113.9", 32)}, "allow")
        address = 0xCB007109  # 203.0.113.9
        keys = [self.entry("source_guard", {"src": (address >> 32 - n << 32 - n, n)}) for n in range(32, 0, -1)]
        keys += [self.entry("router", {"router": 0xFFFFFF}), self.entry("bucket", {"set": 0xFFFF, "bucket": 3})]
        read = [e.table_entry for e in self.client.read(*[p4runtime_pb2.Entity(table_entry=key) for key in keys])]
        lengths = {e.match[0].lpm.prefix_len for e in read if e.table_id == keys[0].table_id}
        self.assertEqual((len(read), lengths), (2, {32, 20}), read)


class EmptyAfterTheTests(GatewayTest):
    """Every test takes its entries away: after the undo of this one, nothing is left."""

    def tearDown(self):
        super().tearDown()
        left = [x for table in self.p4info.tables for x in self.read_table(table) if not x.is_default_action]
        self.assertEqual(left, [])

    def runTest(self):
        self.assert_tunnels(from_client(b"x"), to_router(b"x"))


class DuplicateInsert(GatewayTest):
    def runTest(self):
        with self.assertRaises(WriteError) as caught:
            self.insert("router", {"router": ROUTER_INDEX}, "tunnel", dst="203.0.113.1", dst_port=1)
        self.assertEqual([code for code, _ in caught.exception.errors.values()], ["ALREADY_EXISTS"])
        self.assert_tunnels(from_client(b"x"), to_router(b"x"))


class ChangeOfNothing(GatewayTest):
    def runTest(self):
        for kind in (MODIFY, DELETE):
            with self.subTest(kind=kind), self.assertRaises(WriteError) as caught:
                entry = self.entry("router", {"router": 404}, "tunnel", dst="203.0.113.1", dst_port=1)
                self.client.write([self._update(kind, entry)])
            self.assertEqual([code for code, _ in caught.exception.errors.values()], ["NOT_FOUND"])


class ErrorsOfABatch(GatewayTest):
    """A batch goes on after an error; each update has its own."""

    def runTest(self):
        def router(index):
            return self.entry("router", {"router": index}, "tunnel", dst="203.0.113.1", dst_port=1)

        with self.assertRaises(WriteError) as caught:
            self.client.write([self._update(INSERT, router(1)), self._update(INSERT, router(ROUTER_INDEX)),
                               self._update(DELETE, router(404)), self._update(INSERT, router(2))])
        self._inserted += [router(1), router(2)]
        self.assertEqual({i: code for i, (code, _) in caught.exception.errors.items()}, {1: "ALREADY_EXISTS", 2: "NOT_FOUND"})
        keys = {int.from_bytes(x.match[0].exact.value, "big") for x in self.read_table("router")}
        self.assertEqual(keys, {1, 2, ROUTER_INDEX})


class DefaultActionsAreConstant(GatewayTest):
    def runTest(self):
        entry = p4runtime_pb2.TableEntry(table_id=self.p4info.tables["router"].preamble.id, is_default_action=True)
        entry.action.action.CopyFrom(self.p4info.action("drop", {"reason": 1}))
        with self.assertRaises(WriteError):
            self.client.write([self._update(MODIFY, entry)])


class MissActionsAreNotForEntries(GatewayTest):
    def runTest(self):
        with self.assertRaises(WriteError):
            self.insert("demux", {"protocol": 9, "provider": 9}, "no_route")
        with self.assertRaises(WriteError):
            self.insert("router", {"router": 9}, "drop", reason=1)


class ManyEntries(GatewayTest):
    """A thousand routers in one batch, and back."""

    def runTest(self):
        self.insert_all([self.entry("router", {"router": n}, "tunnel", dst=0x0A000000 + n, dst_port=n) for n in range(1, 1001)])
        self.assertEqual(len(self.read_table("router")), 1001)
        self.modify("demux", {"protocol": PROTOCOL, "provider": 1}, "to_router", router=1000)
        self.insert("ipv4_route", {"dst": ("10.0.0.0", 16)}, "via", nexthop=2)
        self.assert_tunnels(from_client(b"x"), to_router(b"x", dst="10.0.3.232", dst_port=1000))
