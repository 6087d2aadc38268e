/* Fixed P4Runtime identifiers.
 *
 * The top byte is the P4Runtime object type, the rest is a number of ours. An identifier is never reused and never
 * renumbered: controllers and captures of older releases must keep their meaning. An object that goes away leaves its
 * line here, marked "retired". Match fields and action parameters are numbered by position, so new ones go last.
 */

#ifndef DMUX_IDS_P4
#define DMUX_IDS_P4

/* Tables (0x02). Next free: 0x02000016 */
#define TABLE_PORT_ROLE         0x02000001
#define TABLE_SOURCE_GUARD      0x02000002
#define TABLE_PUNT              0x02000003
#define TABLE_LOCAL_SERVICE     0x02000004
#define TABLE_PROBE_PEER        0x02000005
#define TABLE_DEMUX             0x02000006
#define TABLE_BUCKET            0x02000007
#define TABLE_ROUTER            0x02000008
#define TABLE_RETURN_SOURCE     0x02000009
#define TABLE_SERVICE_SOURCE    0x0200000A
#define TABLE_IPV4_ROUTE        0x0200000B
#define TABLE_NEXTHOP           0x0200000C
#define TABLE_ACCESS_PORT       0x0200000D
#define TABLE_ACCESS_VLAN       0x0200000E
#define TABLE_ENDPOINT          0x0200000F
#define TABLE_METALINK_RX       0x02000010
#define TABLE_METALINK_TX       0x02000011
#define TABLE_SHARED_MLI        0x02000012
#define TABLE_LAN_SOURCE        0x02000013
#define TABLE_LAN_FORWARD       0x02000014
#define TABLE_DISCOVERY_PORT    0x02000015

/* Actions (0x01). Next free: 0x01000022 */
#define ACTION_DROP                 0x01000001
#define ACTION_SET_ROLE             0x01000002
#define ACTION_ALLOW                0x01000003
#define ACTION_DENY                 0x01000004
#define ACTION_PUNT                 0x01000005
#define ACTION_SHIM_SERVICE         0x01000006
#define ACTION_GATEWAY_SERVICE      0x01000007
#define ACTION_KNOWN_PEER           0x01000008
#define ACTION_TO_ROUTER            0x01000009
#define ACTION_TO_SET               0x0100000A
#define ACTION_NO_ROUTE             0x0100000B
#define ACTION_TUNNEL               0x0100000C
#define ACTION_ACCEPT_RETURN        0x0100000D
#define ACTION_SET_SERVICE_SOURCE   0x0100000E
#define ACTION_VIA                  0x0100000F
#define ACTION_VIA_GROUP            0x01000010
#define ACTION_DROP_LOCAL           0x01000011
#define ACTION_SET_NEXTHOP          0x01000012
#define ACTION_TO_DRAINING          0x01000013
#define ACTION_SET_ACCESS_LINK      0x01000014
#define ACTION_PROVISIONED          0x01000015
#define ACTION_MULTIPOINT           0x01000016
#define ACTION_SET_ENDPOINT         0x01000017
#define ACTION_METALINK             0x01000018
#define ACTION_METALINK_CONTROL     0x01000019
#define ACTION_TO_METALINK          0x0100001A
#define ACTION_SEND_METALINK        0x0100001B
#define ACTION_SHARED               0x0100001C
#define ACTION_KNOWN_SOURCE         0x0100001D
#define ACTION_NEW_SOURCE           0x0100001E
#define ACTION_TO_PORT              0x0100001F
#define ACTION_FLOOD                0x01000020
#define ACTION_DISCOVER             0x01000021

/* Controller headers (0x04). Next free: 0x04000003 */
#define HEADER_PACKET_IN        0x04000001
#define HEADER_PACKET_OUT       0x04000002

/* Counters (0x12). Next free: 0x12000004 */
#define COUNTER_DROPS           0x12000001
#define COUNTER_METALINK_RX_RED 0x12000002
#define COUNTER_METALINK_TX_RED 0x12000003

/* Direct counters (0x13). Next free: 0x13000005 */
#define COUNTER_ROUTER          0x13000001
#define COUNTER_RETURN_SOURCE   0x13000002
#define COUNTER_METALINK_RX     0x13000003
#define COUNTER_METALINK_TX     0x13000004

/* Meters (0x14). Next free: 0x14000002 */
#define METER_PUNT              0x14000001

/* Direct meters (0x15). Next free: 0x15000004 */
#define METER_METALINK_RX       0x15000001
#define METER_METALINK_TX       0x15000002
#define METER_DISCOVERY         0x15000003

/* Registers (0x16). Next free: 0x16000003 */
#define REGISTER_CLIENT_SEEN    0x16000001
#define REGISTER_LAST_REPORT    0x16000002

/* Digests (0x17): p4c numbers them itself, by a hash of their names (lan_source_t, violation_t). */

#endif
